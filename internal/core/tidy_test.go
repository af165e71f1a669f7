package core_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"arca/internal/arcatest"
	"arca/internal/storage/storagetest"
)

// A namespace's records are tidied by one at a time; who asks meanwhile is told.
func TestOneTidy(t *testing.T) {
	t.Parallel()
	s := arcatest.New(t, arcatest.Config{Backend: storagetest.NewMap()})
	a := s.Core.Active()
	hold := make(chan struct{})
	running := make(chan struct{})
	a.Tidy("root", func(context.Context) {
		close(running)
		<-hold
	})
	<-running
	for _, path := range []string{"sys/leases/tidy", "auth/token/tidy"} {
		out := s.Must("POST", path, s.Root, nil)
		expect(t, path+" while one runs", fmt.Sprint(out["warnings"]), "[Tidy operation already in progress.]")
	}
	a.Tidy("root", func(context.Context) { t.Error("two run at a time") })
	close(hold)
	for deadline := time.Now().Add(30 * time.Second); a.Tidying("root"); <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not end")
		}
	}
	code, out := s.Do("POST", "sys/leases/tidy", s.Root, nil)
	expect(t, "afterwards", fmt.Sprint(code, len(out["warnings"].([]any))), "202 1")
}
