package audit_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/database/databasetest"
	"github.com/ipuka/ipuka/internal/errs"
)

func TestFullDiskThenRoomAgain(t *testing.T) {
	db := databasetest.SQLite(t, audit.Migrations)
	log := open(t, db)
	limit := func(n int64) {
		var got int64
		if err := db.Conn(t.Context()).Raw("PRAGMA max_page_count = " + strconv.FormatInt(n, 10)).Scan(&got).Error; err != nil {
			t.Fatal(err)
		}
	}
	limit(1) // the engine raises it to the present size
	acknowledged, failed := 0, 0
	var mu sync.Mutex
	var group sync.WaitGroup
	e := event("x")
	e.Description = strings.Repeat("d", 1000)
	for range 100 {
		group.Go(func() {
			_, err := log.Append(t.Context(), "org1", e)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				acknowledged++
			case errors.Is(err, errs.Unavailable):
				failed++
			default:
				t.Errorf("on a full disk: %v", err)
			}
		})
	}
	group.Wait()
	if failed == 0 {
		t.Fatal("the disk was not full")
	}
	limit(1 << 30)
	if _, err := log.Append(t.Context(), "org1", e); err != nil {
		t.Fatalf("with room again: %v", err)
	}
	if got := len(list(t, log, "org1", audit.Query{})); got != acknowledged+1 {
		t.Errorf("%d listed, %d acknowledged", got, acknowledged+1)
	}
	contiguous(t, db)
}

func TestServerThatDropsConnections(t *testing.T) {
	// The server may have other guests, whose connections are to stay.
	name := fmt.Sprintf("dropped-%d", os.Getpid())
	url := databasetest.PostgresURL(t)
	db, admin := databasetest.Open(t, url+"&application_name="+name, audit.Migrations), databasetest.Open(t, url, audit.Migrations)
	log := open(t, db)
	stop := make(chan struct{})
	var killer, group sync.WaitGroup
	killer.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				var n []bool
				_ = admin.Conn(t.Context()).Raw("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = ? AND query LIKE '%audit_%'", name).Scan(&n)
			}
		}
	})
	var mu sync.Mutex
	acknowledged := map[string]bool{}
	for w := range 8 {
		group.Go(func() {
			for n := range 40 {
				object := fmt.Sprintf("%d/%d", w, n)
				_, err := log.Append(t.Context(), "org1", event(object))
				if err != nil && !errors.Is(err, errs.Unavailable) {
					t.Errorf("Append = %v", err)
				}
				mu.Lock()
				acknowledged[object] = err == nil
				mu.Unlock()
			}
		})
	}
	group.Wait()
	close(stop)
	killer.Wait()
	if _, err := log.Append(t.Context(), "org1", event("after")); err != nil {
		// The pool may hold one more dead connection than it notices at once.
		if _, err = log.Append(t.Context(), "org1", event("after")); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	}
	contiguous(t, db)
	listed := map[string]int{}
	for _, entry := range list(t, log, "org1", audit.Query{Limit: 1000}) {
		listed[entry.Event.Object]++
	}
	for object, ok := range acknowledged {
		if ok && listed[object] != 1 || listed[object] > 1 {
			t.Errorf("%s: acknowledged %v, listed %d times", object, ok, listed[object])
		}
	}
}

func TestOneBadRecordFailsAlone(t *testing.T) {
	db := databasetest.SQLite(t, audit.Migrations)
	log := open(t, db)
	err := db.Conn(t.Context()).Exec(`CREATE TRIGGER poison BEFORE INSERT ON audit_records WHEN NEW.object = 'poison'
		BEGIN SELECT RAISE(ABORT, 'poison'); END`).Error
	if err != nil {
		t.Fatal(err)
	}
	held, release := hold(t, db)
	<-held
	results := make([]error, 32)
	var group sync.WaitGroup
	for i := range results {
		group.Go(func() {
			object := "x"
			if i == 7 {
				object = "poison"
			}
			_, results[i] = log.Append(t.Context(), "org1", event(object))
		})
	}
	close(release)
	group.Wait()
	for i, err := range results {
		if (err != nil) != (i == 7) {
			t.Errorf("record %d: %v", i, err)
		}
	}
	if n := contiguous(t, db)["org1"]; n != 31 {
		t.Errorf("%d records", n)
	}
}

// hold keeps the database's only writing connection until release is closed.
func hold(t *testing.T, db *database.DB) (held, release chan struct{}) {
	held, release = make(chan struct{}), make(chan struct{})
	go func() {
		err := db.Tx(context.Background(), func(context.Context) error {
			close(held)
			<-release
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}()
	return held, release
}

func TestDatabaseThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := databasetest.SQLite(t, audit.Migrations)
		log := open(t, db)
		held, release := hold(t, db)
		<-held
		const callers = 10_200
		var refused, late int
		var mu sync.Mutex
		var group sync.WaitGroup
		for range callers {
			group.Go(func() {
				start := time.Now()
				_, err := log.Append(t.Context(), "org1", event("x"))
				if !errors.Is(err, errs.Unavailable) {
					t.Errorf("Append = %v", err)
				}
				mu.Lock()
				defer mu.Unlock()
				if d := time.Since(start); d == 0 {
					refused++
				} else if d > 10*time.Second {
					late++
				}
			})
		}
		group.Wait()
		if late > 0 || refused == 0 || refused > 200 {
			t.Errorf("of %d callers %d were refused at once and %d waited too long", callers, refused, late)
		}
		close(release)
		ref, err := log.Append(t.Context(), "org1", event("x"))
		if err != nil || ref.Index != 0 {
			t.Errorf("afterwards: %v, %v: a caller that gave up was recorded, or the log has not recovered", ref, err)
		}
	})
}
