// Package onloadslog has onload's events go to a log/slog handler. It is a package of
// its own so that programs without log/slog do not contain it.
package onloadslog

import (
	"context"
	"log/slog"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// New returns a logger for onload.Config's field Logger that passes all entries to h. The
// entry's name becomes the attribute logger. Fields become attributes of the same names
// (docs/events.md); errors and values with a method String become texts.
//
//	onload.New(onload.Config{Logger: onloadslog.New(slog.Default().Handler())})
func New(h slog.Handler) *zap.Logger { return zap.New(core{h}).Named("onload") }

// core implements zapcore.Core.
type core struct{ h slog.Handler }

// levelOf is slog's level. Those above error are error.
func levelOf(l zapcore.Level) slog.Level {
	switch l {
	case zapcore.DebugLevel:
		return slog.LevelDebug
	case zapcore.InfoLevel:
		return slog.LevelInfo
	case zapcore.WarnLevel:
		return slog.LevelWarn
	}
	return slog.LevelError
}

func (c core) Enabled(l zapcore.Level) bool { return c.h.Enabled(context.Background(), levelOf(l)) }

func (c core) With(fields []zapcore.Field) zapcore.Core { return core{c.h.WithAttrs(attrs(fields))} }

func (c core) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	r := slog.NewRecord(e.Time, levelOf(e.Level), e.Message, 0)
	if e.LoggerName != "" {
		r.AddAttrs(slog.String("logger", e.LoggerName))
	}
	r.AddAttrs(attrs(fields)...)
	return c.h.Handle(context.Background(), r)
}

func (c core) Sync() error { return nil }

// attrs returns fields as slog has them. Each is encoded alone, since a map would lose
// their order.
func attrs(fields []zapcore.Field) []slog.Attr {
	var l []slog.Attr
	for _, f := range fields {
		enc := zapcore.NewMapObjectEncoder()
		f.AddTo(enc)
		v, ok := enc.Fields[f.Key]
		if !ok {
			continue // an error that is nil, or zap.Skip
		}
		switch v := v.(type) {
		case time.Duration:
			l = append(l, slog.Duration(f.Key, v))
		default:
			l = append(l, slog.Any(f.Key, v))
		}
	}
	return l
}
