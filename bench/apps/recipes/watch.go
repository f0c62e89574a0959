package recipes

import (
	"io"
	"log"

	"github.com/onload-go/onload/driver/capture"
	onload "github.com/onload-go/onload/net"
)

// LogStatus logs what became of each interface of the default engine.
func LogStatus() error {
	engine, err := onload.Default()
	if err != nil {
		return err
	}
	for _, i := range engine.Status() {
		log.Print(i.Name, ": ", i.Path, i.Warnings, i.Advice)
	}
	return nil
}

// Record writes the packets of the default engine to file until stop is called.
func Record(file io.Writer) (stop func() error, err error) {
	engine, err := onload.Default()
	if err != nil {
		return nil, err
	}
	c, err := capture.Start(engine, file, capture.Options{})
	if err != nil {
		return nil, err
	}
	return c.Close, nil
}
