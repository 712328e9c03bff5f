package database

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"net"
	"strings"

	gosqlite "github.com/glebarez/go-sqlite"
	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"
	sqlitelib "modernc.org/sqlite/lib"

	"github.com/ipuka/ipuka/internal/errs"
)

// translator gives every error of the engine a kind, in the one place that all of
// them pass: gorm's error translation.
type translator struct{ gorm.Dialector }

func (t translator) Translate(err error) error {
	if inner, ok := t.Dialector.(gorm.ErrorTranslator); ok {
		if known := inner.Translate(err); known != err { //nolint:errorlint // whether it was replaced, not what it is
			return known // a constraint, as gorm.ErrDuplicatedKey and the like
		}
	}
	return translate(err)
}

// SavePoint and RollbackTo keep nested gorm transactions working through translator.
func (t translator) SavePoint(tx *gorm.DB, name string) error {
	return t.Dialector.(gorm.SavePointerDialectorInterface).SavePoint(tx, name)
}

func (t translator) RollbackTo(tx *gorm.DB, name string) error {
	return t.Dialector.(gorm.SavePointerDialectorInterface).RollbackTo(tx, name)
}

// translate makes a failure of the database itself errs.Unavailable, and leaves
// every other error as it is: a wrong statement is our fault and stays internal.
func translate(err error) error {
	var known *errs.Error
	if err == nil || errors.As(err, &known) || !unavailable(err) {
		return err
	}
	return errs.Wrap(errs.Unavailable, err, "the database is not available, nothing was changed, try again")
}

func unavailable(err error) bool {
	var lite *gosqlite.Error
	if errors.As(err, &lite) {
		switch lite.Code() & 0xff {
		case sqlitelib.SQLITE_BUSY, sqlitelib.SQLITE_LOCKED, sqlitelib.SQLITE_NOMEM, sqlitelib.SQLITE_READONLY,
			sqlitelib.SQLITE_INTERRUPT, sqlitelib.SQLITE_IOERR, sqlitelib.SQLITE_CORRUPT, sqlitelib.SQLITE_FULL,
			sqlitelib.SQLITE_CANTOPEN, sqlitelib.SQLITE_PROTOCOL, sqlitelib.SQLITE_NOTADB:
			return true
		}
		return false
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code {
		case "25006", "55P03": // read-only, lock not available
			return true
		}
		switch pg.Code[:2] {
		case "08", "28", "40", "53", "57", "58", "XX": // connection, login, rollback, resources, intervention, system, internal
			return true
		}
		return false
	}
	var network net.Error
	var connect *pgconn.ConnectError
	return errors.As(err, &network) || errors.As(err, &connect) ||
		errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) ||
		strings.Contains(err.Error(), "sql: database is closed") || // not exported; seen while shutting down
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) ||
		pgconn.SafeToRetry(err)
}

// transient reports whether PostgreSQL gave up a transaction that can be run again.
func transient(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "40001" || pg.Code == "40P01")
}
