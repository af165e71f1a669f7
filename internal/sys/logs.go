package sys

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"arca/internal/engine"
	"arca/internal/errs"
	"arca/internal/logging"
)

// logRoutes are sys/loggers and sys/monitor.
func (e *Engine) logRoutes() []engine.Route {
	if e.core.Config().Logs == nil {
		return nil
	}
	return []engine.Route{
		engine.Read("loggers", e.readLoggers, engine.Sudo, engine.RootOnly, engine.ID("loggers-read-verbosity-level"),
			engine.Help("Tell the log level of every logger.")),
		engine.Write("loggers", e.setLoggers, engine.Sudo, engine.RootOnly, engine.ID("loggers-update-verbosity-level"),
			engine.Help("Set the log level of all loggers, until the server starts again.")),
		engine.Delete("loggers", e.resetLoggers, engine.Sudo, engine.RootOnly, engine.ID("loggers-revert-verbosity-level"),
			engine.Help("Set the log level of all loggers back to the configured one.")),
		engine.Read("loggers/{name}", e.readLogger, engine.Sudo, engine.RootOnly, engine.ID("loggers-read-verbosity-level-for"),
			engine.Help("Tell the log level of a logger.")),
		engine.Write("loggers/{name}", e.setLogger, engine.Sudo, engine.RootOnly, engine.ID("loggers-update-verbosity-level-for"),
			engine.Help("Set the log level of a logger, until the server starts again.")),
		engine.Delete("loggers/{name}", e.resetLogger, engine.Sudo, engine.RootOnly, engine.ID("loggers-revert-verbosity-level-for"),
			engine.Help("Set the log level of a logger back to the configured one.")),
		engine.Read("monitor", e.monitor, engine.Sudo, engine.RootOnly, engine.ID("monitor"), engine.Help("Stream the server's log.")),
	}
}

type loggerIn struct {
	Name  string `api:"name" help:"Name of the logger."`
	Level string `api:"level" help:"trace, debug, info, warn or error."`
}

func (in *loggerIn) level() (slog.Level, error) {
	if in.Level == "" {
		return 0, errs.New(errs.Invalid, "level is required")
	}
	l, err := logging.ParseLevel(in.Level)
	if err != nil {
		return 0, errs.New(errs.Invalid, "invalid level provided: unknown log level: %s", in.Level)
	}
	return l, nil
}

func (e *Engine) readLoggers(context.Context, *engine.Call, engine.None) (*engine.Response, error) {
	out := map[string]any{}
	for name, level := range e.core.Config().Logs.Levels() {
		out[name] = logging.LevelName(level)
	}
	return data(out), nil
}

func (e *Engine) setLoggers(_ context.Context, _ *engine.Call, in loggerIn) (*engine.Response, error) {
	level, err := in.level()
	if err != nil {
		return nil, err
	}
	e.core.Config().Logs.SetAll(level)
	return nil, nil
}

func (e *Engine) resetLoggers(context.Context, *engine.Call, engine.None) (*engine.Response, error) {
	e.core.Config().Logs.ResetAll()
	return nil, nil
}

func (e *Engine) readLogger(_ context.Context, _ *engine.Call, in loggerIn) (*engine.Response, error) {
	out := map[string]any{}
	if level, ok := e.core.Config().Logs.Level(in.Name); ok {
		out[in.Name] = logging.LevelName(level)
	}
	return &engine.Response{Data: out, Warnings: []string{}}, nil
}

func (e *Engine) setLogger(_ context.Context, _ *engine.Call, in loggerIn) (*engine.Response, error) {
	level, err := in.level()
	if err != nil {
		return nil, err
	}
	if !e.core.Config().Logs.SetLevel(in.Name, level) {
		return nil, errs.New(errs.Invalid, "logger %q not found", in.Name)
	}
	return nil, nil
}

func (e *Engine) resetLogger(_ context.Context, _ *engine.Call, in loggerIn) (*engine.Response, error) {
	if !e.core.Config().Logs.ResetLevel(in.Name) {
		return nil, errs.New(errs.Invalid, "logger %q not found", in.Name)
	}
	return nil, nil
}

type monitorIn struct {
	Level  string `api:"log_level" help:"Lines of at least this level."`
	Format string `api:"log_format" help:"standard or json."`
}

// monitorQuiet ends a stream in which nothing was logged for so long: its
// client may be gone without a word.
const monitorQuiet = time.Hour

func (e *Engine) monitor(ctx context.Context, call *engine.Call, in monitorIn) (*engine.Response, error) {
	lines, cancel, err := e.core.Config().Logs.Subscribe(in.Level, in.Format)
	if err != nil {
		return nil, err
	}
	done := call.Done
	return &engine.Response{Raw: &engine.Raw{ContentType: "text/plain; charset=utf-8", Stream: func(write func([]byte) error) error {
		defer cancel()
		if err := write(nil); err != nil { // the headers go out at once
			return err
		}
		quiet := time.NewTimer(monitorQuiet)
		defer quiet.Stop()
		for {
			select {
			case line, ok := <-lines:
				if !ok {
					return nil
				}
				quiet.Reset(monitorQuiet)
				if err := write(line); err != nil {
					return err
				}
			case <-quiet.C:
				return errors.New("nothing was logged for an hour")
			case <-ctx.Done():
				return ctx.Err()
			case <-done:
				return nil
			}
		}
	}}}, nil
}
