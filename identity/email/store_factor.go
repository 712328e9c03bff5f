package email

import (
	"context"
	"errors"
	"time"

	"gorm.io/gorm"

	"github.com/ipuka/ipuka/internal/database"
)

type totpRow struct {
	UserID    string `gorm:"primaryKey"`
	Secret    []byte
	Counter   int64
	Confirmed int64
}

func (totpRow) TableName() string { return "totp" }

type recoveryRow struct {
	UserID string `gorm:"primaryKey"`
	Hash   []byte `gorm:"primaryKey"`
	Used   int64
}

func (recoveryRow) TableName() string { return "recovery_codes" }

type passkeyRow struct {
	ID         string `gorm:"primaryKey"`
	UserID     string
	Credential []byte
	SignCount  int64
	Name       string
	Created    int64
	Used       int64
}

func (passkeyRow) TableName() string { return "passkeys" }

func (s store) factors(ctx context.Context, userID string) (Factors, error) {
	var row struct{ Passwords, Totps, Keys, Codes int }
	err := s.db.Reader(ctx).Raw(`SELECT
		(SELECT count(*) FROM passwords WHERE user_id = ?) AS passwords,
		(SELECT count(*) FROM totp WHERE user_id = ?) AS totps,
		(SELECT count(*) FROM passkeys WHERE user_id = ?) AS keys,
		(SELECT count(*) FROM recovery_codes WHERE user_id = ? AND used = 0) AS codes`,
		userID, userID, userID, userID).Scan(&row).Error
	return Factors{Password: row.Passwords > 0, TOTP: row.Totps > 0, Passkeys: row.Keys, RecoveryCodes: row.Codes}, err
}

func (s store) totp(ctx context.Context, userID string) (totpRow, bool, error) {
	row, err := gorm.G[totpRow](s.db.Reader(ctx)).Where("user_id = ?", userID).Take(ctx)
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return totpRow{}, false, nil
	}
	return row, err == nil, err
}

// addTOTP reports whether the user had none before.
func (s store) addTOTP(ctx context.Context, row totpRow) (bool, error) {
	result := s.db.Conn(ctx).Exec(`INSERT INTO totp (user_id, secret, counter, confirmed) VALUES (?, ?, ?, ?)
		ON CONFLICT (user_id) DO NOTHING`, row.UserID, row.Secret, row.Counter, row.Confirmed)
	return result.RowsAffected == 1, result.Error
}

// advanceTOTP reports whether counter is newer than that of all codes accepted before,
// and makes it the last.
func (s store) advanceTOTP(ctx context.Context, userID string, counter int64) (bool, error) {
	n, err := gorm.G[totpRow](s.db.Conn(ctx)).Where("user_id = ? AND counter < ?", userID, counter).Update(ctx, "counter", counter)
	return n == 1, err
}

// dropTOTP reports whether there was a second factor. The recovery codes go with it.
func (s store) dropTOTP(ctx context.Context, userID string) (bool, error) {
	if _, err := gorm.G[recoveryRow](s.db.Conn(ctx)).Where("user_id = ?", userID).Delete(ctx); err != nil {
		return false, err
	}
	n, err := gorm.G[totpRow](s.db.Conn(ctx)).Where("user_id = ?", userID).Delete(ctx)
	return n == 1, err
}

func (s store) replaceRecoveryCodes(ctx context.Context, userID string, hashes [][]byte) error {
	if _, err := gorm.G[recoveryRow](s.db.Conn(ctx)).Where("user_id = ?", userID).Delete(ctx); err != nil {
		return err
	}
	rows := make([]recoveryRow, len(hashes))
	for i, hash := range hashes {
		rows[i] = recoveryRow{UserID: userID, Hash: hash}
	}
	return gorm.G[recoveryRow](s.db.Conn(ctx)).CreateInBatches(ctx, &rows, len(rows))
}

// useRecoveryCode reports whether this very call has used a code up.
func (s store) useRecoveryCode(ctx context.Context, userID string, hash []byte, now time.Time) (bool, error) {
	n, err := gorm.G[recoveryRow](s.db.Conn(ctx)).Where("user_id = ? AND hash = ? AND used = ?", userID, hash, 0).
		Update(ctx, "used", database.Micros(now))
	return n == 1, err
}

// handle returns the random name by which authenticators know a user, and makes it when
// there is none yet.
func (s store) handle(ctx context.Context, userID string, fresh []byte) ([]byte, error) {
	err := s.db.Conn(ctx).Exec("INSERT INTO passkey_users (user_id, handle) VALUES (?, ?) ON CONFLICT (user_id) DO NOTHING", userID, fresh).Error
	if err != nil {
		return nil, err
	}
	var handle []byte
	_, err = s.db.QueryRow(ctx, "SELECT handle FROM passkey_users WHERE user_id = ?", []any{userID}, &handle)
	return handle, err
}

// handleOwner returns the ID of the user with a handle; "" without one.
func (s store) handleOwner(ctx context.Context, handle []byte) (string, error) {
	var userID string
	_, err := s.db.QueryRow(ctx, "SELECT user_id FROM passkey_users WHERE handle = ?", []any{handle}, &userID)
	return userID, err
}

func (s store) passkeys(ctx context.Context, userID string) ([]passkeyRow, error) {
	return gorm.G[passkeyRow](s.db.Reader(ctx)).Where("user_id = ?", userID).Order("created, id").Find(ctx)
}

// addPasskey reports whether nobody had the passkey before.
func (s store) addPasskey(ctx context.Context, row passkeyRow) (bool, error) {
	result := s.db.Conn(ctx).Exec(`INSERT INTO passkeys (id, user_id, credential, sign_count, name, created, used) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO NOTHING`, row.ID, row.UserID, row.Credential, row.SignCount, row.Name, row.Created, row.Used)
	return result.RowsAffected == 1, result.Error
}

// usePasskey stores what an assertion has changed, unless the passkey is gone or was
// used at the same moment.
func (s store) usePasskey(ctx context.Context, before, after passkeyRow) (bool, error) {
	result := s.db.Conn(ctx).Exec("UPDATE passkeys SET credential = ?, sign_count = ?, used = ? WHERE id = ? AND user_id = ? AND sign_count = ?",
		after.Credential, after.SignCount, after.Used, before.ID, before.UserID, before.SignCount)
	return result.RowsAffected == 1, result.Error
}

// dropPasskey reports whether the user had the passkey.
func (s store) dropPasskey(ctx context.Context, userID, id string) (bool, error) {
	n, err := gorm.G[passkeyRow](s.db.Conn(ctx)).Where("id = ? AND user_id = ?", id, userID).Delete(ctx)
	return n == 1, err
}

func (s store) dropPasskeys(ctx context.Context, userID string) error {
	_, err := gorm.G[passkeyRow](s.db.Conn(ctx)).Where("user_id = ?", userID).Delete(ctx)
	return err
}
