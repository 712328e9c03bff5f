package identity

import (
	"context"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/ipuka/ipuka/internal/database"
)

// namesOf returns the names that a user has or had, in lower case.
func (s store) namesOf(ctx context.Context, userID string) ([]string, error) {
	rows, err := gorm.G[nameRow](s.db.Conn(ctx)).Where("owner = ? AND kind = 'user'", userID).Find(ctx)
	names := make([]string, len(rows))
	for i, row := range rows {
		names[i] = row.Folded
	}
	return names, err
}

// placesOf returns the organizations that a user is a member of, deleted ones too, in
// the order in which they are locked.
func (s store) placesOf(ctx context.Context, userID string) ([]string, error) {
	var ids []string
	err := s.db.Conn(ctx).Raw("SELECT organization_id FROM members WHERE user_id = ? ORDER BY organization_id", userID).Scan(&ids).Error
	return ids, err
}

// orphaned returns the login of an organization that would lose its last administrator
// who can sign in, while others are in it, with a user; "" when there is none.
func (s store) orphaned(ctx context.Context, userID string) (string, error) {
	var logins []string
	err := s.db.Conn(ctx).Raw(`SELECT o.login FROM members m JOIN organizations o ON o.id = m.organization_id AND o.deleted = 0
		WHERE m.user_id = ? AND m.role = 'admin'
		AND EXISTS (SELECT 1 FROM members x WHERE x.organization_id = o.id AND x.user_id <> m.user_id)
		AND NOT EXISTS (SELECT 1 FROM members x JOIN users u ON u.id = x.user_id
			WHERE x.organization_id = o.id AND x.user_id <> m.user_id AND x.role = 'admin' AND u.disabled = 0)
		ORDER BY o.login LIMIT 1`, userID).Scan(&logins).Error
	return strings.Join(logins, ""), err
}

// deleteUser ends an account. The row stays for what points to it; it is disabled, so
// that nothing that was read before is worth anything.
func (s store) deleteUser(ctx context.Context, userID string, organizations []string, now time.Time) error {
	if len(organizations) > 0 {
		if err := s.leaveOrganizations(ctx, userID, organizations); err != nil {
			return err
		}
	}
	at := database.Micros(now)
	for _, statement := range []struct {
		sql  string
		args []any
	}{
		{"DELETE FROM identities WHERE user_id = ?", []any{userID}},
		{"DELETE FROM sessions WHERE user_id = ?", []any{userID}},
		{"UPDATE tokens SET revoked = ?, description = '' WHERE user_id = ? AND revoked = 0", []any{at, userID}},
		{"DELETE FROM team_members WHERE user_id = ?", []any{userID}},
		{"DELETE FROM sso_sessions WHERE user_id = ?", []any{userID}},
		{`UPDATE users SET name = login, email = '', email_verified = FALSE, avatar_url = '', site_admin = FALSE,
			disabled = ?, disabled_by = 'admin', deleted = ?, generation = generation + 1 WHERE id = ?`, []any{at, at, userID}},
	} {
		if err := s.db.Conn(ctx).Exec(statement.sql, statement.args...).Error; err != nil {
			return err
		}
	}
	return nil
}

// escapeLike makes text match itself in a LIKE with the escape character "!".
func escapeLike(text string) string {
	return strings.NewReplacer("!", "!!", "%", "!%", "_", "!_").Replace(text)
}

func (s store) users(ctx context.Context, text, after string, limit int) ([]User, error) {
	query := gorm.G[userRow](s.db.Reader(ctx)).Where("deleted = 0 AND lower(login) > ?", after)
	if text != "" {
		like := "%" + escapeLike(text) + "%"
		query = query.Where("(lower(login) LIKE ? ESCAPE '!' OR lower(name) LIKE ? ESCAPE '!' OR email LIKE ? ESCAPE '!')", like, like, like)
	}
	rows, err := query.Order("lower(login)").Limit(limit).Find(ctx)
	out := make([]User, len(rows))
	for i, row := range rows {
		out[i] = row.user()
	}
	return out, err
}

func (s store) closeManaged(ctx context.Context, organizationID, by string, now time.Time) error {
	at := database.Micros(now)
	err := s.db.Conn(ctx).Exec(`UPDATE sessions SET ended = ? WHERE ended = 0
		AND user_id IN (SELECT id FROM users WHERE managed_by = ?)`, at, organizationID).Error
	if err != nil {
		return err
	}
	return s.db.Conn(ctx).Exec(`UPDATE users SET disabled = ?, disabled_by = ?, generation = generation + 1
		WHERE managed_by = ? AND disabled = 0`, at, by, organizationID).Error
}

func (s store) openManaged(ctx context.Context, organizationID, by string) error {
	return s.db.Conn(ctx).Exec("UPDATE users SET disabled = 0, disabled_by = '' WHERE managed_by = ? AND disabled_by = ?", organizationID, by).Error
}

func (s store) setDefaultOrganization(ctx context.Context, userID, organizationID string) error {
	return s.db.Conn(ctx).Exec("UPDATE users SET default_organization = ? WHERE id = ?", organizationID, userID).Error
}

func (s store) defaultOrganization(ctx context.Context, userID string) (id string, err error) {
	err = s.db.Reader(ctx).Raw("SELECT default_organization FROM users WHERE id = ?", userID).Scan(&id).Error
	return id, err
}
