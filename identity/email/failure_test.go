package email_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipuka/ipuka/identity/email"
	"github.com/ipuka/ipuka/internal/errs"
)

// Several replicas let nobody guess more often than one does, and somebody who has no
// account no more than somebody who has.
func TestReplicasThrottleTogether(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.bootstrap(t)
		var replicas []*email.Connector
		for range 4 {
			w.open(t, cheap)
			replicas = append(replicas, w.Connector)
		}
		var n atomic.Int64
		guess := func(name string) int64 {
			var judged atomic.Int64
			for range 12 { // one after the other at each replica
				together(t, len(replicas), errs.Exhausted, func() error {
					i := n.Add(1)
					_, err := replicas[i%4].SignIn(from(t.Context(), fmt.Sprintf("10.0.%d.%d", i/250, i%250)), name, "wrong password")
					if errs.KindOf(err) == errs.Unauthenticated {
						judged.Add(1)
						return nil
					}
					return err
				})
			}
			return judged.Load()
		}
		const most = email.PerAccount - email.Reserved + 3 // those at the same moment
		if known, unknown := guess("admin"), guess("nobody"); known > most || unknown > most || known < email.PerAccount-email.Reserved || unknown < email.PerAccount-email.Reserved {
			t.Errorf("%d attempts at a known account, %d at an unknown one", known, unknown)
		}
		w.open(t, cheap) // a restart forgets nothing
		_, err := w.SignIn(from(t.Context(), "10.9.9.9"), "admin", good)
		kind(t, err, errs.Exhausted)
		w.advance(email.Window)
		_, err = w.SignIn(from(t.Context(), "10.9.9.9"), "admin", good)
		ok(t, err)
		w.advance(time.Hour)
		judged := 0
		for i := range 60 { // one network, many names
			_, err := replicas[i%4].SignIn(from(t.Context(), "2001:db8::1"), fmt.Sprint("name", i), "wrong password")
			if errs.KindOf(err) == errs.Unauthenticated {
				judged++
			}
		}
		if judged != email.PerNetwork {
			t.Errorf("%d attempts from one network", judged)
		}
		w.advance(3 * time.Hour)
		_, _ = w.SignIn(t.Context(), "nobody", "wrong password")
		var rows int64
		ok(t, w.db.Reader(t.Context()).Raw("SELECT count(*) FROM email_limits").Scan(&rows).Error)
		if rows > 2 {
			t.Errorf("%d counters are kept for nothing", rows)
		}
	})
}
