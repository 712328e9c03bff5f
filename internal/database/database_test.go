package database_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"gorm.io/gorm"

	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/database/databasetest"
	"github.com/ipuka/ipuka/internal/errs"
)

var notes = database.Migrations{Name: "notes", FS: fstest.MapFS{
	"migrations/0001_notes.sql": {Data: []byte(`CREATE TABLE notes (id BIGINT PRIMARY KEY, body {{bytes}} NOT NULL);
-- only sqlite
CREATE TRIGGER notes_keep BEFORE DELETE ON notes BEGIN SELECT RAISE(ABORT, 'notes are kept'); END;
-- only postgres
CREATE FUNCTION notes_keep() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'notes are kept'; END $$ LANGUAGE plpgsql;
CREATE TRIGGER notes_keep BEFORE DELETE ON notes FOR EACH ROW EXECUTE FUNCTION notes_keep();
-- only all
CREATE TABLE tags (name TEXT PRIMARY KEY);
`)},
}}

type note struct {
	ID   int64
	Body []byte
}

func (note) TableName() string { return "notes" }

func each(t *testing.T, test func(t *testing.T, db *database.DB)) {
	databasetest.Each(t, test, notes)
}

func count(t *testing.T, db *database.DB) int64 {
	t.Helper()
	n, err := gorm.G[note](db.Reader(t.Context())).Count(t.Context(), "*")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestTxCommitsAllOrNothing(t *testing.T) {
	each(t, func(t *testing.T, db *database.DB) {
		boom := errors.New("boom")
		notified := 0
		insert := func(ctx context.Context, id int64) error {
			db.AfterCommit(ctx, func() { notified++ })
			return gorm.G[note](db.Conn(ctx)).Create(ctx, &note{ID: id, Body: []byte{0, 1}})
		}
		err := db.Tx(t.Context(), func(ctx context.Context) error {
			if err := insert(ctx, 1); err != nil {
				return err
			}
			return db.Tx(ctx, func(ctx context.Context) error { // joins
				if err := insert(ctx, 2); err != nil {
					return err
				}
				return boom
			})
		})
		if !errors.Is(err, boom) {
			t.Fatalf("Tx = %v", err)
		}
		if n := count(t, db); n != 0 || notified != 0 {
			t.Errorf("after a failed transaction: %d rows, %d notices", n, notified)
		}
		if err := db.Tx(t.Context(), func(ctx context.Context) error { return insert(ctx, 1) }); err != nil {
			t.Fatal(err)
		}
		if n := count(t, db); n != 1 || notified != 1 {
			t.Errorf("after a transaction: %d rows, %d notices", n, notified)
		}
	})
}

func TestDuplicateIsTold(t *testing.T) {
	each(t, func(t *testing.T, db *database.DB) {
		for i, want := range []error{nil, gorm.ErrDuplicatedKey} {
			err := gorm.G[note](db.Conn(t.Context())).Create(t.Context(), &note{ID: 7, Body: []byte("x")})
			if !errors.Is(err, want) {
				t.Errorf("insert %d: %v", i, err)
			}
		}
	})
}

func TestMigrationsRunOnceAndPerEngine(t *testing.T) {
	each(t, func(t *testing.T, db *database.DB) {
		if err := db.Migrate(t.Context(), notes); err != nil {
			t.Fatal(err)
		}
		if err := gorm.G[note](db.Conn(t.Context())).Create(t.Context(), &note{ID: 1, Body: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		_, err := gorm.G[note](db.Conn(t.Context())).Where("id = ?", 1).Delete(t.Context())
		if err == nil || !strings.Contains(err.Error(), "notes are kept") {
			t.Errorf("the engine's own trigger is missing: %v", err)
		}
	})
}

func TestReplicasMigrateTogether(t *testing.T) {
	for name, url := range map[string]func(testing.TB) string{"sqlite": databasetest.SQLiteURL, "postgres": databasetest.PostgresURL} {
		t.Run(name, func(t *testing.T) {
			target := url(t)
			var group sync.WaitGroup
			for range 4 {
				group.Go(func() {
					db, err := database.Open(t.Context(), target)
					if err == nil {
						defer db.Close()
						err = db.Migrate(t.Context(), notes)
					}
					if err != nil {
						t.Error(err)
					}
				})
			}
			group.Wait()
		})
	}
}

func TestNewerDatabaseIsRefusedUntouched(t *testing.T) {
	each(t, func(t *testing.T, db *database.DB) {
		older := database.Migrations{Name: "notes", FS: fstest.MapFS{}}
		other := database.Migrations{Name: "other", FS: fstest.MapFS{"migrations/0001_x.sql": {Data: []byte("CREATE TABLE x (id BIGINT)")}}}
		err := db.Migrate(t.Context(), other, older)
		if !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "newer version") {
			t.Fatalf("Migrate = %v", err)
		}
		if db.Conn(t.Context()).Migrator().HasTable("x") {
			t.Error("a refused migration has written")
		}
	})
}

func TestReadTxSeesOneMomentAndWritesNothing(t *testing.T) {
	each(t, func(t *testing.T, db *database.DB) {
		err := db.ReadTx(t.Context(), func(ctx context.Context) error {
			before, err := gorm.G[note](db.Reader(ctx)).Count(ctx, "*")
			if err != nil {
				return err
			}
			if err := gorm.G[note](db.Conn(t.Context())).Create(t.Context(), &note{ID: 3, Body: []byte("x")}); err != nil {
				return err
			}
			after, err := gorm.G[note](db.Reader(ctx)).Count(ctx, "*")
			if before != after {
				t.Errorf("a read transaction saw %d rows and then %d", before, after)
			}
			if err := gorm.G[note](db.Conn(ctx)).Create(ctx, &note{ID: 4, Body: []byte("x")}); err == nil {
				t.Error("a read transaction wrote")
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

func TestFailureOfTheDatabaseIsUnavailable(t *testing.T) {
	t.Run("closed", func(t *testing.T) {
		each(t, func(t *testing.T, db *database.DB) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := db.Ping(ctx); !errors.Is(err, errs.Unavailable) {
				t.Errorf("Ping = %v", err)
			}
			if err := db.Tx(ctx, func(context.Context) error { return nil }); !errors.Is(err, errs.Unavailable) {
				t.Errorf("Tx = %v", err)
			}
		})
	})
	t.Run("full disk, then room again", func(t *testing.T) {
		db := databasetest.SQLite(t, notes)
		var pages int64
		if err := db.Conn(t.Context()).Raw("PRAGMA page_count").Scan(&pages).Error; err != nil {
			t.Fatal(err)
		}
		limit := func(n int64) {
			var got int64
			if err := db.Conn(t.Context()).Raw("PRAGMA max_page_count = " + strconv.FormatInt(n, 10)).Scan(&got).Error; err != nil {
				t.Fatal(err)
			}
		}
		limit(pages)
		err := gorm.G[note](db.Conn(t.Context())).Create(t.Context(), &note{ID: 1, Body: make([]byte, 1<<20)})
		if !errors.Is(err, errs.Unavailable) {
			t.Fatalf("writing to a full disk: %v", err)
		}
		limit(1 << 30)
		if err := gorm.G[note](db.Conn(t.Context())).Create(t.Context(), &note{ID: 1, Body: make([]byte, 1<<20)}); err != nil {
			t.Errorf("with room again: %v", err)
		}
	})
	t.Run("not a database", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "x.db")
		if err := os.WriteFile(path, []byte(strings.Repeat("not a database ", 100)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := database.Open(t.Context(), "sqlite:"+path); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("Open = %v", err)
		}
	})
	t.Run("unknown scheme", func(t *testing.T) {
		if _, err := database.Open(t.Context(), "oracle://x"); !errors.Is(err, errs.Invalid) {
			t.Errorf("Open = %v", err)
		}
	})
}

// The data folder may have been made by somebody who lets others in.
func TestFilesAreTheirOwnersOnly(t *testing.T) {
	folder := t.TempDir()
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	db, err := database.Open(t.Context(), "sqlite:"+filepath.Join(folder, "x.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if err := db.Migrate(t.Context(), notes); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(folder)
	if err != nil || len(files) < 2 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		if info, err := file.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file.Name(), info.Mode(), err)
		}
	}
}

func TestQueryRow(t *testing.T) {
	each(t, func(t *testing.T, db *database.DB) {
		var id int64
		var body []byte
		const query = "SELECT id, body FROM notes WHERE id = ? AND body = ?"
		if found, err := db.QueryRow(t.Context(), query, []any{7, []byte("x")}, &id, &body); found || err != nil {
			t.Fatalf("QueryRow of nothing = %v, %v", found, err)
		}
		err := db.Tx(t.Context(), func(ctx context.Context) error {
			if err := gorm.G[note](db.Conn(ctx)).Create(ctx, &note{ID: 7, Body: []byte("x")}); err != nil {
				return err
			}
			found, err := db.QueryRow(ctx, query, []any{7, []byte("x")}, &id, &body)
			if !found || id != 7 || string(body) != "x" {
				t.Errorf("QueryRow in the transaction = %v, %d %q", found, id, body)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := db.QueryRow(ctx, query, []any{7, []byte("x")}, &id, &body); !errors.Is(err, errs.Unavailable) {
			t.Errorf("QueryRow without a database = %v", err)
		}
	})
}

func TestWrongStatementIsOurFault(t *testing.T) {
	each(t, func(t *testing.T, db *database.DB) {
		err := db.Conn(t.Context()).Exec("SELECT nonsense FROM nowhere").Error
		if err == nil || errs.KindOf(err) != errs.Internal {
			t.Errorf("kind of %v is %v", err, errs.KindOf(err))
		}
	})
}

func TestNowIsInUTCAndWholeMicroseconds(t *testing.T) {
	each(t, func(t *testing.T, db *database.DB) {
		now, err := db.Now(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if d := time.Since(now).Abs(); d > time.Minute || now.Location() != time.UTC || now.Nanosecond()%1000 != 0 {
			t.Errorf("Now = %v", now)
		}
		if got := database.Time(database.Micros(now)); !got.Equal(now) {
			t.Errorf("Micros and Time are not inverse: %v, %v", now, got)
		}
	})
}

func TestWritersTakeTurns(t *testing.T) {
	each(t, func(t *testing.T, db *database.DB) {
		var group sync.WaitGroup
		for i := range 50 {
			group.Go(func() {
				err := db.Tx(t.Context(), func(ctx context.Context) error {
					if _, err := gorm.G[note](db.Reader(ctx)).Count(ctx, "*"); err != nil {
						return err
					}
					return gorm.G[note](db.Conn(ctx)).Create(ctx, &note{ID: int64(i) + 1, Body: []byte("x")})
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if n := count(t, db); n != 50 {
			t.Errorf("%d of 50 rows", n)
		}
	})
}
