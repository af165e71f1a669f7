package storage_test

import (
	"context"
	"testing"
	"testing/synctest"

	"arca/internal/storage"
)

// An Update that commits alone keeps all others from committing. It must not
// wait for the ticket of one of them, which ends only with that one's commit.
func TestSoloWaitsForNoTicket(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db, _ := newDB(t, storage.Config{})
		disturb := func(key string) { // a blind write, which waits for no ticket
			if err := set(db, key, "x"); err != nil {
				t.Error(err)
			}
		}
		holds, soloRuns, goOn := make(chan struct{}), make(chan struct{}), make(chan struct{})
		ended := make(chan error, 2)
		go func() {
			run := 0
			ended <- db.Update(context.Background(), func(tx storage.Tx) error {
				run++
				_, err := tx.Get("k")
				if err != nil && !storage.IsNotFound(err) {
					return err
				}
				if run < 3 {
					disturb("k")
				} else if run == 3 {
					close(holds) // the ticket of k
					<-goOn
				}
				return tx.Put("k", []byte("first"))
			})
		}()
		<-holds
		go func() {
			run := 0
			ended <- db.Update(context.Background(), func(tx storage.Tx) error {
				run++
				if run <= 12 {
					if _, err := tx.Get("j"); err != nil && !storage.IsNotFound(err) {
						return err
					}
					disturb("j")
					return tx.Put("j", []byte("second"))
				}
				if run == 13 {
					close(soloRuns)
					<-goOn
				}
				if _, err := tx.Get("k"); err != nil && !storage.IsNotFound(err) {
					return err
				}
				return tx.Put("k", []byte("second"))
			})
		}()
		<-soloRuns
		close(goOn)
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
}
