package email

import (
	"context"
	"errors"
	"time"

	"gorm.io/gorm"

	"github.com/ipuka/ipuka/internal/database"
)

type codeRow struct {
	Hash    []byte `gorm:"primaryKey"`
	Slot    string
	Kind    string
	UserID  string
	Address string
	Payload []byte
	Created int64
	Expires int64
}

func (codeRow) TableName() string { return "email_codes" }

// putCode stores a code and makes the one that was in its slot worthless.
func (s store) putCode(ctx context.Context, row codeRow) error {
	// The first column is not the hash: gorm takes bytes after "(" for a list.
	return s.db.Conn(ctx).Exec(`INSERT INTO email_codes (slot, hash, kind, user_id, address, payload, created, expires)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (slot) DO UPDATE SET hash = excluded.hash, kind = excluded.kind, user_id = excluded.user_id,
		address = excluded.address, payload = excluded.payload, created = excluded.created, expires = excluded.expires`,
		row.Slot, row.Hash, row.Kind, row.UserID, row.Address, row.Payload, row.Created, row.Expires).Error
}

// code returns the code with a hash, whether it has expired or not.
func (s store) code(ctx context.Context, hash []byte, kind string) (codeRow, bool, error) {
	row, err := gorm.G[codeRow](s.db.Reader(ctx)).Where("hash = ? AND kind = ?", hash, kind).Take(ctx)
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return codeRow{}, false, nil
	}
	return row, err == nil, err
}

// takeCode deletes a code and reports whether this very call has done so.
func (s store) takeCode(ctx context.Context, hash []byte) (bool, error) {
	n, err := gorm.G[codeRow](s.db.Conn(ctx)).Where("hash = ?", hash).Delete(ctx)
	return n == 1, err
}

// dropCodes makes all codes of a user worthless.
func (s store) dropCodes(ctx context.Context, userID string) error {
	_, err := gorm.G[codeRow](s.db.Conn(ctx)).Where("user_id = ?", userID).Delete(ctx)
	return err
}

// dropSignUps makes all pending sign-ups of an address worthless.
func (s store) dropSignUps(ctx context.Context, address string) error {
	_, err := gorm.G[codeRow](s.db.Conn(ctx)).Where("address = ? AND kind = ?", address, kindSignUp).Delete(ctx)
	return err
}

// sweepBatch bounds the rows that one statement of a sweep deletes, so that nobody
// waits long for it.
const sweepBatch = 1000

// sweep deletes some of what has expired.
func (s store) sweep(ctx context.Context, now time.Time) error {
	err := s.db.Conn(ctx).Exec("DELETE FROM email_codes WHERE hash IN (SELECT hash FROM email_codes WHERE expires < ? LIMIT ?)",
		database.Micros(now), sweepBatch).Error
	if err != nil {
		return err
	}
	return s.db.Conn(ctx).Exec("DELETE FROM email_limits WHERE name IN (SELECT name FROM email_limits WHERE latest < ? LIMIT ?)",
		database.Micros(now.Add(-longestWindow)), sweepBatch).Error
}

// use counts one more use of name, unless there were limit of them already since it
// was last left alone for a window. It reports whether it has counted. One statement
// does both, so that uses at the same moment cannot all pass.
func (s store) use(ctx context.Context, name string, limit int, window time.Duration, now time.Time) (bool, error) {
	rested := database.Micros(now.Add(-window))
	result := s.db.Conn(ctx).Exec(`INSERT INTO email_limits (name, used, latest, noted) VALUES (?, 1, ?, 0)
		ON CONFLICT (name) DO UPDATE SET
			used = CASE WHEN email_limits.latest <= ? THEN 1 ELSE email_limits.used + 1 END,
			latest = excluded.latest
		WHERE email_limits.latest <= ? OR email_limits.used < ?`,
		name, database.Micros(now), rested, rested, limit)
	return result.RowsAffected == 1, result.Error
}

// unuse takes one use back.
func (s store) unuse(ctx context.Context, name string) error {
	return s.db.Conn(ctx).Exec("UPDATE email_limits SET used = used - 1 WHERE name = ? AND used > 0", name).Error
}

// note reports whether a refusal of name is to be put on record: once per window.
func (s store) note(ctx context.Context, name string, window time.Duration, now time.Time) (bool, error) {
	result := s.db.Conn(ctx).Exec("UPDATE email_limits SET noted = ? WHERE name = ? AND noted <= ?",
		database.Micros(now), name, database.Micros(now.Add(-window)))
	return result.RowsAffected == 1, result.Error
}

// count counts one more of each of two names, which need not be of a limit.
func (s store) count(ctx context.Context, one, two string, now time.Time) error {
	at := database.Micros(now)
	return s.db.Conn(ctx).Exec(`INSERT INTO email_limits (name, used, latest, noted) VALUES (?, 1, ?, 0), (?, 1, ?, 0)
		ON CONFLICT (name) DO UPDATE SET used = email_limits.used + 1, latest = excluded.latest`, one, at, two, at).Error
}

// counts returns what was counted of some names and of some others.
func (s store) counts(ctx context.Context, these, those []string) (one, two int, err error) {
	var row struct{ One, Two int }
	err = s.db.Reader(ctx).Raw(`SELECT
		(SELECT coalesce(sum(used), 0) FROM email_limits WHERE name IN ?) AS one,
		(SELECT coalesce(sum(used), 0) FROM email_limits WHERE name IN ?) AS two`, these, those).Scan(&row).Error
	return row.One, row.Two, err
}
