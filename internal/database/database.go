// Package database opens SQLite or PostgreSQL through gorm and gives the packages
// that own tables what they need: transactions that travel in the context, numbered
// migrations, the database's clock, and errors with a kind.
//
// Promises: what [DB.Tx] committed is durable (SQLite runs with WAL and
// synchronous=FULL). A failure of the database itself, full disk and lost connection
// included, is errs.Unavailable, and the next call works again once the database
// does. Values are always bound, and never logged.
//
// SQLite has one connection for writing and a pool for reading. Inside a
// transaction every call must use the transaction's context, or it waits for itself.
package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/glebarez/sqlite"
	"golang.org/x/mod/semver"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/ipuka/ipuka/internal/errs"
)

// Dialect is the kind of engine behind a [DB].
type Dialect string

// The supported engines.
const (
	SQLite     Dialect = "sqlite"
	PostgreSQL Dialect = "postgres"
)

// oldestSQLite is the first release without the WAL-reset corruption.
const oldestSQLite = "v3.51.3"

// DB is an open database. It is safe for concurrent use.
type DB struct {
	dialect Dialect
	write   *gorm.DB
	read    *gorm.DB
}

// Open opens the database at rawURL: "sqlite:PATH" or "postgres://…". A missing
// SQLite file is created, readable by its owner only. The error is one line, fit for
// an operator, and has no password in it.
func Open(ctx context.Context, rawURL string) (*DB, error) {
	scheme, rest, _ := strings.Cut(rawURL, ":")
	switch scheme {
	case "sqlite":
		return openSQLite(ctx, rest)
	case "postgres", "postgresql":
		return openPostgres(ctx, rawURL)
	}
	return nil, errs.Errorf(errs.Invalid, "database: %q is not a kind of database, use sqlite:PATH or postgres://…", scheme)
}

func openSQLite(ctx context.Context, path string) (*DB, error) {
	pragmas := url.Values{"_pragma": {
		"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)", "trusted_schema(0)",
	}, "_txlock": {"immediate"}}
	// SQLite would let everybody read a new file; those beside it get the mode of this one.
	if f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err == nil {
		_ = f.Close()
	}
	file := (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath()}).String()
	write, err := open(sqlite.Open(file+"?"+pragmas.Encode()), 1)
	if err != nil {
		return nil, fmt.Errorf("opening database %s: %w", path, err)
	}
	pragmas["_pragma"] = append(pragmas["_pragma"], "query_only(1)")
	pragmas.Del("_txlock")
	read, err := open(sqlite.Open(file+"?"+pragmas.Encode()), max(4, 2*runtime.GOMAXPROCS(0)))
	if err != nil {
		return nil, fmt.Errorf("opening database %s: %w", path, err)
	}
	db := &DB{dialect: SQLite, write: write, read: read}
	var version string
	if err := write.WithContext(ctx).Raw("SELECT sqlite_version()").Scan(&version).Error; err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("opening database %s: %w", path, err)
	}
	if semver.Compare("v"+version, oldestSQLite) < 0 {
		_ = db.Close()
		return nil, fmt.Errorf("opening database: SQLite %s can damage its files, %s or later is needed", version, oldestSQLite[1:])
	}
	return db, nil
}

func openPostgres(ctx context.Context, rawURL string) (*DB, error) {
	if _, err := url.Parse(rawURL); err != nil {
		return nil, errs.Errorf(errs.Invalid, "database: the postgres:// URL cannot be parsed") // err quotes the URL, password included
	}
	conn, err := open(postgres.New(postgres.Config{DSN: rawURL}), 20)
	if err != nil {
		return nil, errs.Wrap(errs.Unavailable, err, "opening database: the PostgreSQL server does not answer as its URL says")
	}
	db := &DB{dialect: PostgreSQL, write: conn, read: conn}
	if err := db.Ping(ctx); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("opening database: %w", err)
	}
	return db, nil
}

func open(dialector gorm.Dialector, connections int) (*gorm.DB, error) {
	conn, err := gorm.Open(translator{dialector}, &gorm.Config{
		TranslateError:         true,
		SkipDefaultTransaction: true, // a lone statement is atomic anyway, and Tx is there for more
		DisableAutomaticPing:   true,
		// gorm's own logger prints values, which may be secret; failures surface as errors.
		Logger:  logger.Discard,
		NowFunc: func() time.Time { return time.Now().UTC().Truncate(time.Microsecond) },
	})
	if err != nil {
		return nil, err
	}
	// gorm translates the errors of every operation but Row and Rows.
	err = conn.Callback().Row().After("gorm:row").Register("ipuka:translate", func(conn *gorm.DB) {
		conn.Error = translate(conn.Error)
	})
	if err != nil {
		return nil, err
	}
	pool, err := conn.DB()
	if err != nil {
		return nil, err
	}
	pool.SetMaxOpenConns(connections)
	pool.SetMaxIdleConns(connections)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	return conn, nil
}

// Dialect returns the kind of engine, for the few statements that differ.
func (db *DB) Dialect() Dialect { return db.dialect }

// Close closes every connection. Transactions under way fail.
func (db *DB) Close() error {
	var first error
	for _, conn := range []*gorm.DB{db.read, db.write} {
		pool, err := conn.DB()
		if err == nil {
			err = pool.Close()
		}
		if err != nil && first == nil {
			first = err
		}
	}
	return first
}

// Ping reports whether the database answers: nil or errs.Unavailable.
func (db *DB) Ping(ctx context.Context) error {
	var one int
	return db.read.WithContext(ctx).Raw("SELECT 1").Scan(&one).Error
}

// Now returns the one clock that expiries are judged by, in UTC and whole
// microseconds: the server's with PostgreSQL, which several replicas share, and the
// process's with SQLite, which has one process.
func (db *DB) Now(ctx context.Context) (time.Time, error) {
	if db.dialect == SQLite {
		return time.Now().UTC().Truncate(time.Microsecond), nil
	}
	var micros int64
	err := db.Reader(ctx).Raw("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").Scan(&micros).Error
	return Time(micros), err
}

// Micros returns t as it is stored: microseconds since 1970, and 0 for the zero time.
func Micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// Time is the inverse of [Micros].
func Time(micros int64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micros).UTC()
}

type txKey struct{ *DB }

type tx struct {
	conn        *gorm.DB
	afterCommit []func()
}

// Conn returns the connection to write with: the transaction that ctx carries, or
// else the database itself, where each statement commits alone.
func (db *DB) Conn(ctx context.Context) *gorm.DB {
	if t, ok := ctx.Value(txKey{db}).(*tx); ok {
		return t.conn.WithContext(ctx)
	}
	return db.write.WithContext(ctx)
}

// Reader returns the connection to read with: the transaction that ctx carries, or
// else the read pool.
func (db *DB) Reader(ctx context.Context) *gorm.DB {
	if t, ok := ctx.Value(txKey{db}).(*tx); ok {
		return t.conn.WithContext(ctx)
	}
	return db.read.WithContext(ctx)
}

// QueryRow runs a query that every request makes and for which gorm's mapping costs
// too much. Placeholders are "?", which must not occur otherwise. It reports whether
// there was a row, and scans its columns into dest.
func (db *DB) QueryRow(ctx context.Context, query string, args []any, dest ...any) (bool, error) {
	if db.dialect == PostgreSQL {
		query = numbered(query)
	}
	err := db.Reader(ctx).Statement.ConnPool.QueryRowContext(ctx, query, args...).Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, translate(err)
}

// numbered replaces the placeholders "?" with "$1", "$2", ….
func numbered(query string) string {
	var out strings.Builder
	for i := 1; ; i++ {
		before, after, found := strings.Cut(query, "?")
		out.WriteString(before)
		if !found {
			return out.String()
		}
		fmt.Fprintf(&out, "$%d", i)
		query = after
	}
}

// InTx reports whether ctx carries a transaction of db.
func (db *DB) InTx(ctx context.Context) bool {
	_, ok := ctx.Value(txKey{db}).(*tx)
	return ok
}

// attempts bounds how often a transaction that PostgreSQL gave up in favour of
// another is tried.
const attempts = 4

// Tx runs fn in a transaction that travels in the context fn gets, and commits when
// fn returns nil. A call inside a transaction joins it. After an error or a panic
// nothing of it remains. fn may run again when PostgreSQL reports a deadlock or a
// serialization failure, so it must not change anything but the database before it
// is over; see [DB.AfterCommit].
func (db *DB) Tx(ctx context.Context, fn func(ctx context.Context) error) error {
	if db.InTx(ctx) {
		return fn(ctx)
	}
	for attempt := 1; ; attempt++ {
		t := &tx{}
		err := db.write.WithContext(ctx).Transaction(func(conn *gorm.DB) error {
			t.conn = conn
			return fn(context.WithValue(ctx, txKey{db}, t))
		})
		switch {
		case err == nil:
			for _, after := range t.afterCommit {
				after()
			}
			return nil
		case !transient(err) || attempt == attempts:
			return translate(err)
		}
	}
}

// ReadTx runs fn in a transaction that sees one moment of the database and is
// always rolled back. It joins a transaction that ctx carries.
func (db *DB) ReadTx(ctx context.Context, fn func(ctx context.Context) error) error {
	if db.InTx(ctx) {
		return fn(ctx)
	}
	options := &sql.TxOptions{ReadOnly: true}
	if db.dialect == PostgreSQL {
		options.Isolation = sql.LevelRepeatableRead
	}
	conn := db.read.WithContext(ctx).Begin(options)
	if conn.Error != nil {
		return translate(conn.Error)
	}
	defer conn.Rollback()
	return translate(fn(context.WithValue(ctx, txKey{db}, &tx{conn: conn})))
}

// AfterCommit runs fn once the transaction that ctx carries has committed, and at
// once when it carries none. It is how caches in memory learn of a change: never
// before it is durable, and before the call that made it returns.
func (db *DB) AfterCommit(ctx context.Context, fn func()) {
	if t, ok := ctx.Value(txKey{db}).(*tx); ok {
		t.afterCommit = append(t.afterCommit, fn)
		return
	}
	fn()
}
