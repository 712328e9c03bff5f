package audit_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/database/databasetest"
)

const bareTable = `CREATE TABLE bare (log TEXT NOT NULL, idx BIGINT NOT NULL, time BIGINT NOT NULL, event TEXT, login TEXT,
	object TEXT, result TEXT, event_index BIGINT, leaf {{bytes}} NOT NULL, PRIMARY KEY (log, idx))`

// BenchmarkAppend measures durable appends by 1 and by 16 writers, and in the same
// run bare inserts of equal rows into a plain table, each with its commit.
// "of-bare" is how many appends fit into the time of one bare insert.
func BenchmarkAppend(b *testing.B) {
	for name, url := range map[string]func(testing.TB) string{"sqlite": databasetest.SQLiteURL, "postgres": databasetest.PostgresURL} {
		b.Run(name, func(b *testing.B) {
			for _, writers := range []int{1, 16} {
				b.Run(map[int]string{1: "1 writer", 16: "16 writers"}[writers], func(b *testing.B) {
					db := databasetest.Open(b, url(b), audit.Migrations)
					benchmarkAppend(b, db, writers)
				})
			}
		})
	}
}

func benchmarkAppend(b *testing.B, db *database.DB, writers int) {
	log := open(b, db)
	bytesType := "BLOB"
	if db.Dialect() == database.PostgreSQL {
		bytesType = "BYTEA"
	}
	if err := db.Conn(b.Context()).Exec(strings.Replace(bareTable, "{{bytes}}", bytesType, 1)).Error; err != nil {
		b.Fatal(err)
	}
	e := event("acme/web/prod")
	e.Details = map[string]string{"update": "0f6d8c1e-1111-2222-3333-444444444444", "version": "12"}
	if _, err := log.Append(b.Context(), "warm", e); err != nil {
		b.Fatal(err)
	}
	leaf := []byte(leaves(b, db, "warm")[0])
	appended := share(b, writers, func(ctx context.Context, _ int64) error {
		_, err := log.Append(ctx, "org1", e)
		return err
	})
	b.StopTimer()
	bare := share(b, writers, func(ctx context.Context, i int64) error {
		return db.Conn(ctx).Exec("INSERT INTO bare VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", "org1", i, i, e.Name, "alice", e.Object, nil, nil, leaf).Error
	})
	b.ReportMetric(float64(b.N)/appended.Seconds(), "appends/s")
	b.ReportMetric(float64(b.N)/bare.Seconds(), "bare/s")
	b.ReportMetric(bare.Seconds()/appended.Seconds(), "of-bare")
}

// share lets writers do b.N steps together and returns the time that took.
func share(b *testing.B, writers int, step func(ctx context.Context, i int64) error) time.Duration {
	var next atomic.Int64
	var group sync.WaitGroup
	start := time.Now()
	for range writers {
		group.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				if err := step(b.Context(), i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	return time.Since(start)
}
