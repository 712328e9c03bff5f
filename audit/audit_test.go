package audit_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/database/databasetest"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

func each(t *testing.T, test func(t *testing.T, db *database.DB, log *audit.Log)) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) { test(t, db, open(t, db)) }, audit.Migrations)
}

func open(t testing.TB, db *database.DB) *audit.Log {
	t.Helper()
	if db.Dialect() == database.SQLite { // no test here cuts the power
		if err := db.Conn(t.Context()).Exec("PRAGMA synchronous = OFF").Error; err != nil {
			t.Fatal(err)
		}
	}
	log, err := audit.Open(audit.Config{DB: db})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(log.Close)
	return log
}

func event(object string) audit.Event {
	return audit.Event{
		Name:   "stack-update-started",
		Actor:  audit.Actor{Kind: audit.User, ID: "u1", Login: "Alice", Name: "Alice Liddell"},
		Object: object, Description: "Started an update.", Decision: audit.Allow, Rule: "organization role admin",
	}
}

func list(t *testing.T, log *audit.Log, name string, q audit.Query) []audit.Entry {
	t.Helper()
	var all []audit.Entry
	for {
		page, err := log.List(t.Context(), name, q)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page.Entries...)
		if page.Next == "" {
			return all
		}
		q.Cursor = page.Next
	}
}

// contiguous fails unless the records of each log have the indexes 0, 1, 2… and
// times that never decrease, and returns how many there are.
func contiguous(t *testing.T, db *database.DB) map[string]int64 {
	t.Helper()
	var rows []struct {
		Log  string
		Idx  int64
		Time int64
	}
	if err := db.Reader(t.Context()).Raw("SELECT log, idx, time FROM audit_records ORDER BY log, idx").Scan(&rows).Error; err != nil {
		t.Fatal(err)
	}
	next, last := map[string]int64{}, map[string]int64{}
	for _, row := range rows {
		if row.Idx != next[row.Log] {
			t.Fatalf("log %s: index %d comes where %d should", row.Log, row.Idx, next[row.Log])
		}
		if row.Time < last[row.Log] {
			t.Fatalf("log %s: the time of %d is before the one of its predecessor", row.Log, row.Idx)
		}
		next[row.Log]++
		last[row.Log] = row.Time
	}
	return next
}

func TestEventThenOutcome(t *testing.T) {
	each(t, func(t *testing.T, db *database.DB, log *audit.Log) {
		ctx := httpapi.WithRequest(t.Context(), httpapi.Request{ID: "r1", Address: "192.0.2.1", UserAgent: "pulumi-cli"})
		e := event("acme/web/prod")
		e.TokenID, e.TokenName, e.SessionID, e.Connector = "t1", "laptop", "s1", "email"
		e.Details, e.Before, e.After = map[string]string{"update": "7"}, map[string]string{"a": "1"}, map[string]string{"a": "2"}
		before := time.Now().Add(-time.Minute)
		ref, err := log.Append(ctx, "org1", e)
		if err != nil || ref != (audit.Ref{Log: "org1", Index: 0}) {
			t.Fatalf("Append = %v, %v", ref, err)
		}
		check := func(o audit.Outcome) {
			t.Helper()
			got := list(t, log, "org1", audit.Query{})
			if len(got) != 1 || got[0].Time.Before(before) {
				t.Fatalf("List = %+v", got)
			}
			want := audit.Entry{Ref: ref, Time: got[0].Time, Event: e, Outcome: o, RequestID: "r1", Address: "192.0.2.1", UserAgent: "pulumi-cli"}
			if !reflect.DeepEqual(got[0], want) {
				t.Errorf("got  %+v\nwant %+v", got[0], want)
			}
		}
		check(audit.Outcome{Result: audit.Unknown})
		o := audit.Outcome{Result: audit.Failed, Status: 409, Details: map[string]string{"by": "bob"}}
		if err := log.Complete(ctx, ref, o); err != nil {
			t.Fatal(err)
		}
		check(o)
		if err := log.Complete(ctx, ref, o); !errors.Is(err, errs.Conflict) {
			t.Errorf("a second outcome: %v", err)
		}
		if err := log.Complete(ctx, audit.Ref{Log: "org1", Index: 1}, o); !errors.Is(err, errs.Conflict) {
			t.Errorf("an outcome of an outcome: %v", err)
		}
		if err := log.Complete(ctx, audit.Ref{Log: "org1", Index: 99}, o); !errors.Is(err, errs.Conflict) {
			t.Errorf("an outcome of nothing: %v", err)
		}
		done, err := log.AppendDone(ctx, "org1", e, o)
		if err != nil || done.Index != 2 {
			t.Fatalf("AppendDone = %v, %v", done, err)
		}
		if err := log.Complete(ctx, done, o); !errors.Is(err, errs.Conflict) {
			t.Errorf("a second outcome of a record that has one: %v", err)
		}
		if n := contiguous(t, db)["org1"]; n != 3 {
			t.Errorf("%d records", n)
		}
		if other := list(t, log, "org2", audit.Query{}); len(other) != 0 {
			t.Errorf("another log has %v", other)
		}
	})
}

func TestProgrammingErrorsAreRefused(t *testing.T) {
	log := open(t, databasetest.SQLite(t, audit.Migrations))
	good := audit.Outcome{Result: audit.Succeeded}
	for name, call := range map[string]func() error{
		"event not in the catalogue": func() error {
			e := event("x")
			e.Name = "stack-eaten"
			_, err := log.Append(t.Context(), "o", e)
			return err
		},
		"no such decision": func() error {
			e := event("x")
			e.Decision = "maybe"
			_, err := log.Append(t.Context(), "o", e)
			return err
		},
		"no such result": func() error {
			_, err := log.AppendDone(t.Context(), "o", event("x"), audit.Outcome{Result: "ok"})
			return err
		},
		"no log": func() error { _, err := log.AppendDone(t.Context(), "", event("x"), good); return err },
	} {
		if err := call(); err == nil || errs.KindOf(err) != errs.Internal {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := list(t, log, "o", audit.Query{}); len(got) != 0 {
		t.Errorf("recorded: %v", got)
	}
}

func TestRecordIsPartOfTheTransaction(t *testing.T) {
	each(t, func(t *testing.T, db *database.DB, log *audit.Log) {
		boom := errors.New("boom")
		done := audit.Outcome{Result: audit.Succeeded}
		for _, want := range []error{boom, nil} {
			err := db.Tx(t.Context(), func(ctx context.Context) error {
				for _, name := range []string{"org1", audit.Site} {
					if _, err := log.AppendDone(ctx, name, event("x"), done); err != nil {
						return err
					}
				}
				ref, err := log.Append(ctx, "org1", event("y"))
				if err != nil {
					return err
				}
				if err := log.Complete(ctx, ref, done); err != nil {
					return err
				}
				return want
			})
			if !errors.Is(err, want) {
				t.Fatal(err)
			}
		}
		if got, want := contiguous(t, db), map[string]int64{"org1": 3, audit.Site: 1}; !maps.Equal(got, want) {
			t.Errorf("records: %v, want %v", got, want)
		}
	})
}

func TestNothingIsRewritten(t *testing.T) {
	each(t, func(t *testing.T, db *database.DB, log *audit.Log) {
		ref, err := log.Append(t.Context(), "org1", event("x"))
		if err != nil {
			t.Fatal(err)
		}
		if err := log.Complete(t.Context(), ref, audit.Outcome{Result: audit.Succeeded}); err != nil {
			t.Fatal(err)
		}
		insert := " INTO audit_records (log, idx, time, event, login, object, leaf) VALUES ('org1', 0, 0, 'user-login', '', '', 'x') "
		statements := []string{
			"UPDATE audit_records SET login = 'mallory'",
			"UPDATE audit_records SET leaf = leaf",
			"DELETE FROM audit_records",
			"DELETE FROM audit_records WHERE idx = 1",
			"INSERT" + insert + "ON CONFLICT (log, idx) DO UPDATE SET leaf = excluded.leaf",
			"UPDATE audit_heads SET size = 0",
			"UPDATE audit_heads SET size = 1, time = time + 1",
			"UPDATE audit_heads SET size = size + 1, time = 0",
			"UPDATE audit_heads SET log = 'org2', size = size + 1",
			"DELETE FROM audit_heads",
		}
		if db.Dialect() == database.SQLite {
			statements = append(statements, "INSERT OR REPLACE"+insert, "REPLACE"+insert,
				"REPLACE INTO audit_records (log, idx, time, event_index, result, leaf) VALUES ('org1', 2, 0, 0, 'failed', 'x')",
				"REPLACE INTO audit_heads (log, size, time) VALUES ('org1', 0, 0)",
				"UPDATE OR REPLACE audit_records SET idx = 0 WHERE idx = 1")
		} else {
			statements = append(statements, "TRUNCATE audit_records", "TRUNCATE audit_heads", "TRUNCATE audit_records CASCADE")
		}
		before := list(t, log, "org1", audit.Query{})
		for _, statement := range statements {
			if err := db.Conn(t.Context()).Exec(statement).Error; err == nil ||
				!strings.Contains(err.Error(), "append-only") && !strings.Contains(err.Error(), "only grow") {
				t.Errorf("%s: %v", statement, err)
			}
		}
		if after := list(t, log, "org1", audit.Query{}); !reflect.DeepEqual(before, after) {
			t.Errorf("before %v\nafter  %v", before, after)
		}
		if _, err := log.Append(t.Context(), "org1", event("x")); err != nil {
			t.Errorf("appending is refused too: %v", err)
		}
	})
}

func TestConcurrentAppends(t *testing.T) {
	each(t, func(t *testing.T, db *database.DB, log *audit.Log) {
		appendAll(t, []*database.DB{db}, []*audit.Log{log}, 16, 25)
		contiguous(t, db)
	})
}

func TestReplicasOnOnePostgres(t *testing.T) {
	url := databasetest.PostgresURL(t)
	var dbs []*database.DB
	var logs []*audit.Log
	for range 2 {
		db := databasetest.Open(t, url, audit.Migrations)
		dbs, logs = append(dbs, db), append(logs, open(t, db))
	}
	appendAll(t, dbs, logs, 8, 40)
	contiguous(t, dbs[0])
}

// appendAll writes with several writers through every log at once, some of them in
// transactions, and checks that exactly what was acknowledged is listed.
func appendAll(t *testing.T, dbs []*database.DB, logs []*audit.Log, writers, events int) {
	t.Helper()
	var mu sync.Mutex
	acknowledged := map[audit.Ref]string{}
	names := []string{"org1", "org2", audit.Site}
	one := func(i, w, n int) error {
		ctx, name, object := t.Context(), names[(w+n)%len(names)], fmt.Sprintf("%d/%d/%d", i, w, n)
		var ref audit.Ref
		write := func(ctx context.Context) (err error) {
			ref, err = logs[i].Append(ctx, name, event(object))
			return err
		}
		if n%4 == 0 {
			if err := dbs[i].Tx(ctx, write); err != nil {
				return err
			}
		} else if err := write(ctx); err != nil {
			return err
		}
		mu.Lock()
		if before, twice := acknowledged[ref]; twice {
			t.Errorf("%v was given to %s and to %s", ref, before, object)
		}
		acknowledged[ref] = object
		mu.Unlock()
		return logs[i].Complete(ctx, ref, audit.Outcome{Result: audit.Succeeded, Status: 200})
	}
	var group sync.WaitGroup
	for i := range logs {
		for w := range writers {
			group.Go(func() {
				for n := range events {
					if err := one(i, w, n); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	group.Wait()
	listed := map[audit.Ref]string{}
	for _, name := range names {
		for _, entry := range list(t, logs[0], name, audit.Query{Limit: 37}) {
			listed[entry.Ref] = entry.Event.Object
			if entry.Outcome.Result != audit.Succeeded {
				t.Errorf("%v has the outcome %v", entry.Ref, entry.Outcome)
			}
		}
	}
	if !maps.Equal(acknowledged, listed) || len(listed) != len(logs)*writers*events {
		t.Errorf("%d acknowledged, %d listed", len(acknowledged), len(listed))
	}
}

func TestTimeNeverGoesBack(t *testing.T) {
	each(t, func(t *testing.T, db *database.DB, log *audit.Log) {
		future := time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
		if err := db.Conn(t.Context()).Exec("INSERT INTO audit_heads (log, size, time) VALUES ('org1', 0, ?)", future.UnixMicro()).Error; err != nil {
			t.Fatal(err)
		}
		if _, err := log.Append(t.Context(), "org1", event("x")); err != nil {
			t.Fatal(err)
		}
		if got := list(t, log, "org1", audit.Query{})[0].Time; !got.Equal(future) {
			t.Errorf("after a record of %v one of %v", future, got)
		}
	})
}

func TestClientThatHangsUpIsRecorded(t *testing.T) {
	each(t, func(t *testing.T, db *database.DB, log *audit.Log) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		ref, err := log.Append(ctx, "org1", event("x"))
		if err != nil {
			t.Fatal(err)
		}
		if err := log.Complete(ctx, ref, audit.Outcome{Result: audit.Failed}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestClosedLog(t *testing.T) {
	db := databasetest.SQLite(t, audit.Migrations)
	log := open(t, db)
	if _, err := log.Append(t.Context(), "org1", event("x")); err != nil {
		t.Fatal(err)
	}
	log.Close()
	if _, err := log.Append(t.Context(), "org1", event("x")); !errors.Is(err, errs.Unavailable) {
		t.Errorf("Append after Close = %v", err)
	}
	if got := list(t, log, "org1", audit.Query{}); len(got) != 1 {
		t.Errorf("%d entries", len(got))
	}
}

// leaves returns the records of a log as they are stored.
func leaves(t testing.TB, db *database.DB, log string) []string {
	t.Helper()
	var rows [][]byte
	if err := db.Reader(t.Context()).Raw("SELECT leaf FROM audit_records WHERE log = ? ORDER BY idx", log).Scan(&rows).Error; err != nil {
		t.Fatal(err)
	}
	texts := make([]string, len(rows))
	for i, row := range rows {
		texts[i] = string(row)
	}
	return texts
}
