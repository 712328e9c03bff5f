package identity

import (
	"context"
	"time"

	"gorm.io/gorm"

	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
)

type organizationRow struct {
	ID      string
	Login   string
	Name    string
	Version int64
	Created int64
}

func (organizationRow) TableName() string { return "organizations" }

func (r organizationRow) organization() Organization {
	return Organization{ID: r.ID, Login: r.Login, Name: r.Name, Created: database.Time(r.Created)}
}

type memberRow struct {
	OrganizationID string
	UserID         string
	Role           string
	Created        int64
}

func (memberRow) TableName() string { return "members" }

func (s store) insertOrganization(ctx context.Context, o Organization) error {
	if err := s.insertName(ctx, o.Login, "organization", o.ID); err != nil {
		return err
	}
	return gorm.G[organizationRow](s.db.Conn(ctx)).Create(ctx, &organizationRow{
		ID: o.ID, Login: o.Login, Name: o.Name, Version: 1, Created: database.Micros(o.Created),
	})
}

func (s store) organizationByName(ctx context.Context, folded string) (Organization, error) {
	row, err := gorm.G[organizationRow](s.db.Reader(ctx)).
		Where("id = (SELECT owner FROM names WHERE folded = ? AND kind = 'organization')", folded).Take(ctx)
	return row.organization(), missing(err, errNoOrganization())
}

// lockOrganization returns an organization and keeps other changes of its members
// waiting until the transaction of ctx is over.
func (s store) lockOrganization(ctx context.Context, id string) (Organization, error) {
	result := s.db.Conn(ctx).Exec("UPDATE organizations SET version = version + 1 WHERE id = ?", id)
	if result.Error != nil {
		return Organization{}, result.Error
	}
	if result.RowsAffected != 1 {
		return Organization{}, errNoOrganization()
	}
	row, err := gorm.G[organizationRow](s.db.Conn(ctx)).Where("id = ?", id).Take(ctx)
	return row.organization(), err
}

func (s store) memberships(ctx context.Context, userID string) ([]Membership, error) {
	var rows []struct {
		Organization organizationRow `gorm:"embedded"`
		Role         string
		Joined       int64
	}
	err := s.db.Reader(ctx).Raw(`SELECT o.id, o.login, o.name, o.created, m.role, m.created AS joined
		FROM members m JOIN organizations o ON o.id = m.organization_id
		JOIN names n ON n.owner = o.id AND n.folded = lower(o.login)
		WHERE m.user_id = ? ORDER BY n.folded`, userID).Scan(&rows).Error
	out := make([]Membership, len(rows))
	for i, row := range rows {
		out[i] = Membership{Organization: row.Organization.organization(), Role: Role(row.Role), Created: database.Time(row.Joined)}
	}
	return out, err
}

func (s store) members(ctx context.Context, organizationID, after string, limit int) ([]Member, error) {
	var rows []struct {
		User   userRow `gorm:"embedded"`
		Role   string
		Joined int64
	}
	err := s.db.Reader(ctx).Raw(`SELECT u.id, u.login, u.name, u.email, u.avatar_url, u.site_admin, u.disabled, u.created,
		m.role, m.created AS joined
		FROM members m JOIN users u ON u.id = m.user_id
		WHERE m.organization_id = ? AND m.user_id > ? ORDER BY m.user_id LIMIT ?`, organizationID, after, limit).Scan(&rows).Error
	out := make([]Member, len(rows))
	for i, row := range rows {
		out[i] = Member{User: row.User.user(), Role: Role(row.Role), Created: database.Time(row.Joined)}
	}
	return out, err
}

// rosters returns the roster of one organization, or of all of them for "". It is
// one statement, so that it is of one moment.
func (s store) rosters(ctx context.Context, organizationID string) ([]Roster, error) {
	var rows []struct {
		Organization organizationRow `gorm:"embedded"`
		UserID       string
		Role         string
	}
	err := s.db.Reader(ctx).Raw(`SELECT o.id, o.login, o.name, o.created, coalesce(u.id, '') AS user_id, coalesce(m.role, '') AS role
		FROM organizations o LEFT JOIN members m ON m.organization_id = o.id
		LEFT JOIN users u ON u.id = m.user_id AND u.disabled = 0
		WHERE o.id = ? OR ? = '' ORDER BY o.id`, organizationID, organizationID).Scan(&rows).Error
	if err != nil {
		return nil, err
	}
	var out []Roster
	for _, row := range rows {
		if len(out) == 0 || out[len(out)-1].Organization.ID != row.Organization.ID {
			out = append(out, Roster{Organization: row.Organization.organization(), Roles: make(map[string]Role)})
		}
		if row.UserID != "" {
			out[len(out)-1].Roles[row.UserID] = Role(row.Role)
		}
	}
	return out, nil
}

func (s store) insertMember(ctx context.Context, organizationID, userID string, role Role, now time.Time) error {
	err := gorm.G[memberRow](s.db.Conn(ctx)).Create(ctx, &memberRow{
		OrganizationID: organizationID, UserID: userID, Role: string(role), Created: database.Micros(now),
	})
	return taken(err, "that user is a member of the organization already")
}

func (s store) role(ctx context.Context, organizationID, userID string) (Role, error) {
	row, err := gorm.G[memberRow](s.db.Reader(ctx)).Where("organization_id = ? AND user_id = ?", organizationID, userID).Take(ctx)
	return Role(row.Role), missing(err, errNoMember())
}

func errNoMember() error {
	return errs.Errorf(errs.NotFound, "that user is not a member of the organization")
}

func (s store) setRole(ctx context.Context, organizationID, userID string, role Role) error {
	n, err := gorm.G[memberRow](s.db.Conn(ctx)).Where("organization_id = ? AND user_id = ?", organizationID, userID).Update(ctx, "role", string(role))
	if err == nil && n != 1 {
		return errNoMember()
	}
	return err
}

func (s store) deleteMember(ctx context.Context, organizationID, userID string) error {
	n, err := gorm.G[memberRow](s.db.Conn(ctx)).Where("organization_id = ? AND user_id = ?", organizationID, userID).Delete(ctx)
	if err == nil && n != 1 {
		return errNoMember()
	}
	return err
}

// countOtherAdmins counts the administrators, userID aside, who are not disabled.
func (s store) countOtherAdmins(ctx context.Context, organizationID, userID string) (int64, error) {
	var n int64
	err := s.db.Reader(ctx).Raw(`SELECT count(*) FROM members m JOIN users u ON u.id = m.user_id
		WHERE m.organization_id = ? AND m.role = 'admin' AND m.user_id <> ? AND u.disabled = 0`, organizationID, userID).Scan(&n).Error
	return n, err
}
