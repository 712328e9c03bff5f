// Package databasetest runs a test on every engine that Ipuka supports, each time
// on a fresh, empty database.
//
// PostgreSQL is the server at IPUKA_TEST_POSTGRES (a postgres:// URL) or, without
// that, one that is started from the installed binaries for the duration of the
// test process. Where neither can be had the PostgreSQL half skips with one line;
// with CI=true it fails instead.
package databasetest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipuka/ipuka/internal/database"
)

// Each runs test once per engine, as subtests named sqlite and postgres.
func Each(t *testing.T, test func(t *testing.T, db *database.DB), migrations ...database.Migrations) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, Open(t, SQLiteURL(t), migrations...)) })
	t.Run("postgres", func(t *testing.T) { test(t, Open(t, PostgresURL(t), migrations...)) })
}

// SQLite returns a fresh, migrated SQLite database, for tests that do not depend on
// the engine.
func SQLite(t testing.TB, migrations ...database.Migrations) *database.DB {
	t.Helper()
	return Open(t, SQLiteURL(t), migrations...)
}

// Open opens and migrates the database at url and closes it with the test.
func Open(t testing.TB, url string, migrations ...database.Migrations) *database.DB {
	t.Helper()
	db, err := database.Open(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := db.Migrate(context.Background(), migrations...); err != nil {
		t.Fatal(err)
	}
	return db
}

// SQLiteURL returns the URL of a SQLite database that does not exist yet.
func SQLiteURL(t testing.TB) string {
	return "sqlite:" + filepath.Join(t.TempDir(), "test.db")
}

var schemas atomic.Int64

// PostgresURL returns the URL of an empty schema, dropped with the test.
func PostgresURL(t testing.TB) string {
	t.Helper()
	base, err := server()
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no PostgreSQL to test with: %v", err)
		}
		t.Skipf("no PostgreSQL to test with: %v", err)
	}
	admin, err := database.Open(context.Background(), base)
	if err != nil {
		t.Fatal(err)
	}
	schema := fmt.Sprintf("test_%d_%d", os.Getpid(), schemas.Add(1))
	if err := admin.Conn(context.Background()).Exec("CREATE SCHEMA " + schema).Error; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = admin.Conn(context.Background()).Exec("DROP SCHEMA " + schema + " CASCADE").Error
		_ = admin.Close()
	})
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	query.Set("search_path", schema)
	u.RawQuery = query.Encode()
	return u.String()
}

var server = sync.OnceValues(func() (string, error) {
	if u := os.Getenv("IPUKA_TEST_POSTGRES"); u != "" {
		return u, nil
	}
	return start()
})

// start runs a private PostgreSQL server on a free loopback port. A shell holds it:
// when this process ends, however it ends, the shell's standard input closes and it
// stops the server and removes its folder.
func start() (string, error) {
	bin, err := binaries()
	if err != nil {
		return "", err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	port := listener.Addr().(*net.TCPAddr).Port
	_ = listener.Close()
	folder, err := os.MkdirTemp("", "ipuka-postgres-")
	if err != nil {
		return "", err
	}
	const script = `set -e
run() { "$@"; }
if [ "$(id -u)" = 0 ]; then chown postgres "$1"; run() { runuser -u postgres -- "$@"; }; fi
cd "$1"
trap 'run "$3/pg_ctl" -D "$1/data" -m immediate stop >/dev/null 2>&1 || true; rm -rf "$1"' EXIT
run "$3/initdb" -D "$1/data" -U ipuka -A trust -E UTF8 --locale=C.UTF-8 --no-sync >"$1/log" 2>&1
run "$3/pg_ctl" -D "$1/data" -w -l "$1/data/log" -o "-c listen_addresses=127.0.0.1 -c port=$2 -c unix_socket_directories='' -c fsync=off -c max_connections=200" start >>"$1/log" 2>&1
echo ready
cat >/dev/null
`
	cmd := exec.Command("sh", "-c", script, "sh", folder, strconv.Itoa(port), bin)
	cmd.Stderr = os.Stderr
	held, err := cmd.StdinPipe()
	if err != nil {
		return "", err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	go func() { // holds the pipe, which would be closed when it is collected
		_ = cmd.Wait()
		_ = held.Close()
	}()
	ready := make(chan bool, 1)
	go func() { ready <- bufio.NewScanner(out).Scan() }()
	select {
	case ok := <-ready:
		if !ok {
			return "", errors.New("the PostgreSQL server did not start")
		}
	case <-time.After(time.Minute):
		_ = cmd.Process.Kill()
		return "", errors.New("the PostgreSQL server did not start within a minute")
	}
	return fmt.Sprintf("postgres://ipuka@127.0.0.1:%d/postgres?sslmode=disable", port), nil
}

// binaries returns the folder of initdb and pg_ctl: from PATH, or the newest that
// Debian's packages have put in place.
func binaries() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path), nil
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return "", errors.New("initdb is neither on PATH nor in /usr/lib/postgresql, install the package postgresql")
	}
	newest, best := "", -1
	for _, path := range found {
		if major, err := strconv.Atoi(strings.Split(path, "/")[4]); err == nil && major > best {
			newest, best = filepath.Dir(path), major
		}
	}
	return newest, nil
}
