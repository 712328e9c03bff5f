package identity

import (
	"context"
	"time"

	"gorm.io/gorm"

	"github.com/ipuka/ipuka/internal/database"
)

// dueIdentities returns identities that have not been asked about for RecheckEvery,
// the longest waiting first, of users who have something that a provider could take
// away: a session or a token that is good.
func (s store) dueIdentities(ctx context.Context, now time.Time, limit int) ([]identityRow, error) {
	var rows []identityRow
	at := database.Micros(now)
	err := s.db.Reader(ctx).Raw(`SELECT i.connector, i.subject, i.user_id, i.credential, i.checked, i.answered
		FROM identities i JOIN users u ON u.id = i.user_id
		WHERE i.credential IS NOT NULL AND i.withdrawn = 0 AND i.checked <= ? AND u.disabled = 0 AND u.deleted = 0 AND (
			EXISTS (SELECT 1 FROM sessions s WHERE s.user_id = i.user_id AND s.ended = 0 AND s.expires > ? AND s.last_seen > ? AND s.generation = u.generation)
			OR EXISTS (SELECT 1 FROM tokens t WHERE t.user_id = i.user_id AND t.revoked = 0 AND (t.expires = 0 OR t.expires > ?)))
		ORDER BY i.checked LIMIT ?`,
		at-RecheckEvery.Microseconds(), at, at-IdleTimeout.Microseconds(), at, limit).Scan(&rows).Error
	return rows, err
}

func current(db *gorm.DB, row identityRow) *gorm.DB {
	return db.Table("identities").Where("connector = ? AND subject = ? AND user_id = ? AND checked = ? AND withdrawn = 0",
		row.Connector, row.Subject, row.UserID, row.Checked)
}

// claimIdentity reports whether the caller is the one to ask: of several replicas one
// is. What the others write afterwards does not match any more.
func (s store) claimIdentity(ctx context.Context, row identityRow, now time.Time) (bool, error) {
	result := current(s.db.Conn(ctx), row).Updates(map[string]any{"checked": database.Micros(now)})
	return result.RowsAffected == 1, result.Error
}

// replaceCredential keeps a new credential, unless the user has arrived with a newer
// one meanwhile.
func (s store) replaceCredential(ctx context.Context, row identityRow, credential []byte) error {
	return current(s.db.Conn(ctx), row).Updates(map[string]any{"credential": credential}).Error
}

// recheckAnswered writes an answer down; false when the user has arrived anew since
// the question, which makes the answer an old one.
func (s store) recheckAnswered(ctx context.Context, row identityRow, a answer, now time.Time) (bool, error) {
	columns, err := a.columns(now)
	if err != nil {
		return false, err
	}
	result := current(s.db.Conn(ctx), row).Updates(columns)
	return result.RowsAffected == 1, result.Error
}

// withdrawIdentity is recheckAnswered for somebody who is let in no more.
func (s store) withdrawIdentity(ctx context.Context, row identityRow, now time.Time) (bool, error) {
	result := current(s.db.Conn(ctx), row).Updates(map[string]any{
		"withdrawn": database.Micros(now), "answered": database.Micros(now), "credential": nil, "groups": "[]",
	})
	return result.RowsAffected == 1, result.Error
}

func (s store) moveIdentity(ctx context.Context, userID string, old Identity, subject string) (bool, error) {
	result := s.db.Conn(ctx).Exec("UPDATE identities SET subject = ? WHERE user_id = ? AND connector = ? AND subject = ?",
		subject, userID, old.Connector, old.Subject)
	return result.RowsAffected == 1, result.Error
}
