package scim

import (
	"context"

	"gorm.io/gorm"

	"github.com/ipuka/ipuka/internal/database"
)

type groupRow struct {
	TeamID         string `gorm:"primaryKey"`
	OrganizationID string
	ExternalID     string
	DisplayName    string
	DisplayFolded  string
	Version        int64
	Created        int64
	Modified       int64
}

func (groupRow) TableName() string { return "scim_groups" }

type teamRow struct {
	Group groupRow `gorm:"embedded"`
	Team  string
}

func (r teamRow) group() group {
	g := r.Group
	return group{
		id: g.TeamID, team: r.Team, externalID: g.ExternalID, displayName: g.DisplayName,
		meta: meta{version: g.Version, created: database.Time(g.Created), modified: database.Time(g.Modified)},
	}
}

func newGroupRow(organizationID string, g group) groupRow {
	return groupRow{
		TeamID: g.id, OrganizationID: organizationID, ExternalID: g.externalID, DisplayName: g.displayName, DisplayFolded: fold(g.displayName),
		Version: g.meta.version, Created: database.Micros(g.meta.created), Modified: database.Micros(g.meta.modified),
	}
}

// teamsOf selects the groups of an organization. A team that is kept by somebody else
// now is none any more.
const teamsOf = "scim_groups r JOIN teams t ON t.id = r.team_id AND t.organization_id = r.organization_id AND t.kind = 'scim' WHERE r.organization_id = ?"

// groupColumns are what groups are searched by in the database.
var groupColumns = columns{
	"id":            column("r.team_id", nil),
	"externalid":    column("r.external_id", nil),
	"displayname":   column("r.display_folded", fold),
	"members":       membered,
	"members.value": membered,
}

func membered(text string) condition {
	return condition{
		sql: `EXISTS (SELECT 1 FROM team_members m JOIN scim_users u ON u.user_id = m.user_id AND u.deleted = 0
			WHERE m.team_id = r.team_id AND u.organization_id = r.organization_id AND m.user_id = ?)`,
		args: []any{text}, exact: true,
	}
}

func errTakenName() error { return taken("there is a group with that displayName") }

func (s store) insertGroup(ctx context.Context, organizationID string, g group) error {
	row := newGroupRow(organizationID, g)
	return conflict(gorm.G[groupRow](s.db.Conn(ctx)).Create(ctx, &row), errTakenName())
}

func (s store) updateGroup(ctx context.Context, organizationID string, g group) error {
	n, err := gorm.G[groupRow](s.db.Conn(ctx)).Where("organization_id = ? AND team_id = ?", organizationID, g.id).
		Select("*").Updates(ctx, newGroupRow(organizationID, g))
	if err == nil && n != 1 {
		return errNoResource()
	}
	return conflict(err, errTakenName())
}

// deleteGroup removes what is left of a group once its team is gone.
func (s store) deleteGroup(ctx context.Context, organizationID, id string) error {
	_, err := gorm.G[groupRow](s.db.Conn(ctx)).Where("organization_id = ? AND team_id = ?", organizationID, id).Delete(ctx)
	return err
}

func (s store) group(ctx context.Context, organizationID, id string) (group, error) {
	var rows []teamRow
	err := s.db.Reader(ctx).Raw("SELECT r.*, t.name AS team FROM "+teamsOf+" AND r.team_id = ?", organizationID, id).Scan(&rows).Error
	if err != nil {
		return group{}, err
	}
	if len(rows) == 0 {
		return group{}, errNoResource()
	}
	return rows[0].group(), nil
}

// lockGroup is group, and keeps other changes waiting until the transaction of ctx is over.
func (s store) lockGroup(ctx context.Context, organizationID, id string) (group, error) {
	err := s.db.Conn(ctx).Exec("UPDATE scim_groups SET version = version WHERE organization_id = ? AND team_id = ?", organizationID, id).Error
	if err != nil {
		return group{}, err
	}
	return s.group(ctx, organizationID, id)
}

func (s store) countGroups(ctx context.Context, organizationID string, where condition) (total int, err error) {
	query, args := restricted("SELECT count(*) FROM "+teamsOf, []any{organizationID}, where)
	err = s.db.Reader(ctx).Raw(query, args...).Scan(&total).Error
	return total, err
}

func (s store) groups(ctx context.Context, organizationID string, p page) ([]group, error) {
	query, args := restricted("SELECT r.*, t.name AS team FROM "+teamsOf, []any{organizationID}, p.where)
	query += " ORDER BY " + p.order("r.display_folded", "r.team_id") + " LIMIT ? OFFSET ?"
	var rows []teamRow
	if err := s.db.Reader(ctx).Raw(query, append(args, p.limit, p.offset)...).Scan(&rows).Error; err != nil {
		return nil, err
	}
	out := make([]group, len(rows))
	for i, row := range rows {
		out[i] = row.group()
	}
	return out, nil
}
