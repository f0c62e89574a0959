package engine

import (
	"github.com/onload-go/onload/internal/inspect"
	"github.com/onload-go/onload/internal/inspect/report"
)

func init() {
	inspect.Handle(report.KindCounters, func(r *inspect.Request) error {
		if err := r.Decode(&struct{}{}); err != nil {
			return err
		}
		// The structs as they are: the program onload reads them into package onload's.
		var answer struct {
			Teams []Team `json:"teams"`
		}
		for _, e := range shownEngines() {
			answer.Teams = append(answer.Teams, e.Teams()...)
		}
		return r.Send(&answer)
	})
}
