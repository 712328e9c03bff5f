package email

import (
	"context"
	"errors"
	"time"

	"gorm.io/gorm"

	"github.com/ipuka/ipuka/internal/database"
)

// store is all SQL of this package. Its methods join the transaction of ctx.
type store struct{ db *database.DB }

type passwordRow struct {
	UserID  string `gorm:"primaryKey"`
	Hash    string
	Changed int64
}

func (passwordRow) TableName() string { return "passwords" }

func (s store) setPassword(ctx context.Context, userID, encoded string) error {
	now, err := s.db.Now(ctx)
	if err != nil {
		return err
	}
	return s.db.Conn(ctx).Exec(`INSERT INTO passwords (user_id, hash, changed) VALUES (?, ?, ?)
		ON CONFLICT (user_id) DO UPDATE SET hash = excluded.hash, changed = excluded.changed`,
		userID, encoded, database.Micros(now)).Error
}

// password returns the encoded hash of a user's password, "" without one.
func (s store) password(ctx context.Context, userID string) (string, error) {
	row, err := gorm.G[passwordRow](s.db.Reader(ctx)).Where("user_id = ?", userID).Take(ctx)
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return "", nil
	}
	return row.Hash, err
}

// replaceHash stores the same password under another hash, unless the password has
// been changed meanwhile.
func (s store) replaceHash(ctx context.Context, userID, before, after string) error {
	_, err := gorm.G[passwordRow](s.db.Conn(ctx)).Where("user_id = ? AND hash = ?", userID, before).Update(ctx, "hash", after)
	return err
}

// originLife is how long a network is remembered after a sign-in from there.
const originLife = 90 * 24 * time.Hour

// noteOrigin remembers that a user has signed in from a network, and forgets where
// the user has not signed in from for long.
func (s store) noteOrigin(ctx context.Context, userID, network string) error {
	now, err := s.db.Now(ctx)
	if err != nil {
		return err
	}
	return s.db.Tx(ctx, func(ctx context.Context) error {
		conn := s.db.Conn(ctx)
		if err := conn.Exec("DELETE FROM password_origins WHERE user_id = ? AND seen < ?", userID, database.Micros(now.Add(-originLife))).Error; err != nil {
			return err
		}
		return conn.Exec(`INSERT INTO password_origins (user_id, network, seen) VALUES (?, ?, ?)
			ON CONFLICT (user_id, network) DO UPDATE SET seen = excluded.seen`, userID, network, database.Micros(now)).Error
	})
}

// knowsOrigin reports whether a user has signed in from a network lately.
func (s store) knowsOrigin(ctx context.Context, userID, network string) (bool, error) {
	now, err := s.db.Now(ctx)
	if err != nil {
		return false, err
	}
	var n int64
	err = s.db.Reader(ctx).Raw("SELECT count(*) FROM password_origins WHERE user_id = ? AND network = ? AND seen >= ?",
		userID, network, database.Micros(now.Add(-originLife))).Scan(&n).Error
	return n > 0, err
}

// forget deletes everything about a user.
func (s store) forget(ctx context.Context, userID string) error {
	for _, table := range []string{"passwords", "password_origins", "email_codes", "totp", "recovery_codes", "passkeys", "passkey_users"} {
		if err := s.db.Conn(ctx).Exec("DELETE FROM "+table+" WHERE user_id = ?", userID).Error; err != nil {
			return err
		}
	}
	return nil
}
