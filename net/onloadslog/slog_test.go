package onloadslog_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"go.uber.org/zap"

	_ "github.com/onload-go/onload/internal/testlong" // go test ./... -long
	"github.com/onload-go/onload/net/onloadslog"
)

func TestNew(t *testing.T) {
	var b bytes.Buffer
	log := onloadslog.New(slog.NewJSONHandler(&b, &slog.HandlerOptions{Level: slog.LevelInfo}))
	log.Debug("not this")
	log.With(zap.Int("pid", 7)).Warn("interface is lost",
		zap.String("interface", "eth0"), zap.Error(errors.New("gone")), zap.Error(nil),
		zap.Stringer("address", netip.MustParseAddr("10.0.0.1")), zap.Duration("in", time.Second), zap.Ints("queues", []int{1, 2}))
	var got map[string]any
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatalf("%v: %s", err, b.Bytes())
	}
	if _, ok := got["time"]; !ok {
		t.Error("no time")
	}
	delete(got, "time")
	want := map[string]any{
		"level": "WARN", "msg": "interface is lost", "logger": "onload", "pid": 7., "interface": "eth0", "error": "gone",
		"address": "10.0.0.1", "in": 1e9, "queues": []any{1., 2.},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
