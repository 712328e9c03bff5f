package state

import (
	"context"
	"embed"
	"errors"
	"fmt"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
)

//go:embed migrations/*.sql
var migrationFS embed.FS

// Migrations are the tables of the state service.
var Migrations = database.Migrations{Name: "state", FS: migrationFS}

// store holds all SQL of the package. Its methods join the transaction of their
// context; those named lock… must run in one.
type store struct{ db *database.DB }

// locking makes a SELECT lock the rows it reads until the transaction ends. SQLite
// needs nothing: there a transaction is the only writer from its beginning. The mode
// is the weaker one of PostgreSQL's two, which lets foreign keys be checked.
func (s store) locking() string {
	if s.db.Dialect() == database.PostgreSQL {
		return " FOR NO KEY UPDATE"
	}
	return ""
}

// one returns the only row of a query, or errs.NotFound with the given text.
func one[T any](query *gorm.DB, missing string, args ...any) (T, error) {
	var rows []T
	if err := query.Scan(&rows).Error; err != nil {
		var zero T
		return zero, err
	}
	if len(rows) == 0 {
		var zero T
		return zero, errs.Errorf(errs.NotFound, missing, args...)
	}
	return rows[0], nil
}

// exec runs a statement that must change exactly one row.
func (s store) exec(ctx context.Context, statement string, args ...any) error {
	result := s.db.Conn(ctx).Exec(statement, args...)
	if result.Error != nil {
		return result.Error
	}
	if result.RowsAffected != 1 {
		return fmt.Errorf("%d rows were changed instead of 1", result.RowsAffected)
	}
	return nil
}

func isDuplicate(err error) bool { return errors.Is(err, gorm.ErrDuplicatedKey) }

type garbageRow struct{ Prefix string }

func (garbageRow) TableName() string { return "garbage" }

// addGarbage records that everything under prefix may be removed from the bucket.
func (s store) addGarbage(ctx context.Context, prefix string) error {
	return gorm.G[garbageRow](s.db.Conn(ctx), clause.OnConflict{DoNothing: true}).Create(ctx, &garbageRow{prefix})
}

func (s store) garbage(ctx context.Context, limit int) ([]string, error) {
	rows, err := gorm.G[garbageRow](s.db.Reader(ctx)).Order("prefix").Limit(limit).Find(ctx)
	prefixes := make([]string, len(rows))
	for i, row := range rows {
		prefixes[i] = row.Prefix
	}
	return prefixes, err
}

func (s store) dropGarbage(ctx context.Context, prefix string) error {
	_, err := gorm.G[garbageRow](s.db.Conn(ctx)).Where("prefix = ?", prefix).Delete(ctx)
	return err
}

type canaryRow struct {
	ID    int64 `gorm:"primaryKey;autoIncrement:false"`
	Value []byte
}

func (canaryRow) TableName() string { return "canaries" }

// canary returns the wrapped canary, or nil when there is none yet.
func (s store) canary(ctx context.Context) ([]byte, error) {
	rows, err := gorm.G[canaryRow](s.db.Reader(ctx)).Where("id = ?", 1).Find(ctx)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return rows[0].Value, nil
}

// setCanary stores the canary unless another process has been faster.
func (s store) setCanary(ctx context.Context, value []byte) error {
	return gorm.G[canaryRow](s.db.Conn(ctx), clause.OnConflict{DoNothing: true}).Create(ctx, &canaryRow{1, value})
}
