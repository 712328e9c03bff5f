package identity

import (
	"context"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/ipuka/ipuka/internal/database"
)

// The SQL behind follow: every method takes all organizations, groups or teams of one
// person at once.

// backedOrganization is an organization whose members come from a connector, with what
// one user is in it.
type backedOrganization struct {
	ID        string
	Login     string
	Kind      string
	BackingID string
	Role      string // "" for somebody who is no member
	Source    string
	Admin     bool `gorm:"-"` // they administer the backing group
}

// mirrored reports whether groups become teams.
func (o backedOrganization) mirrored() bool {
	kind := OrganizationKind(o.Kind)
	return kind == KindGitHubBacked || kind == KindGitLabBacked
}

// backedOrganizations returns the organizations of a connector that concern a user: by
// one of the groups, by a membership that came from it, or because of their kind.
func (s store) backedOrganizations(ctx context.Context, connector, userID string, groups []string) ([]backedOrganization, error) {
	var rows []backedOrganization
	err := s.db.Conn(ctx).Raw(`SELECT o.id, o.login, o.kind, o.backing_id, coalesce(m.role, '') AS role, coalesce(m.source, '') AS source
		FROM organizations o LEFT JOIN members m ON m.organization_id = o.id AND m.user_id = ?
		WHERE o.connector = ? AND o.deleted = 0 AND (o.backing_id IN ? OR o.kind = 'saml' OR m.source = ?) ORDER BY o.id`,
		userID, connector, groups, connector).Scan(&rows).Error
	return rows, err
}

// lockOrganizations keeps other changes of the members of organizations waiting until
// the transaction of ctx is over. The IDs are sorted; where rows are locked one by
// one, that is done in their order.
func (s store) lockOrganizations(ctx context.Context, ids []string) error {
	if s.db.Dialect() == database.PostgreSQL {
		var locked []string
		if err := s.db.Conn(ctx).Raw("SELECT id FROM organizations WHERE id IN ? ORDER BY id FOR NO KEY UPDATE", ids).Scan(&locked).Error; err != nil {
			return err
		}
	}
	return s.db.Conn(ctx).Exec("UPDATE organizations SET version = version + 1 WHERE id IN ?", ids).Error
}

// mappedGroups returns which of groups have a team, as organization and group.
func (s store) mappedGroups(ctx context.Context, connector string, organizations, groups []string) (map[[2]string]bool, error) {
	var rows []struct{ OrganizationID, GroupID string }
	err := s.db.Conn(ctx).Raw(`SELECT organization_id, group_id FROM team_groups
		WHERE connector = ? AND organization_id IN ? AND group_id IN ?`, connector, organizations, groups).Scan(&rows).Error
	known := make(map[[2]string]bool, len(rows))
	for _, row := range rows {
		known[[2]string{row.OrganizationID, row.GroupID}] = true
	}
	return known, err
}

// teamPlace is a team with what one user is in it and should be.
type teamPlace struct {
	TeamID         string
	Name           string
	OrganizationID string
	Wanted         bool // one of the team's groups has the user
	Present        bool // the user is in the team
	Member         bool // of the organization
}

// teamPlaces returns the teams with groups of a connector that a user is in or should
// be in.
func (s store) teamPlaces(ctx context.Context, connector, userID string, groups []string) ([]teamPlace, error) {
	var rows []struct {
		TeamID, Name, OrganizationID string
		Wanted, Present, Member      int64
	}
	err := s.db.Conn(ctx).Raw(`SELECT t.id AS team_id, t.name, t.organization_id,
			max(CASE WHEN g.group_id IN ? THEN 1 ELSE 0 END) AS wanted,
			max(CASE WHEN p.user_id IS NULL THEN 0 ELSE 1 END) AS present,
			max(CASE WHEN m.user_id IS NULL THEN 0 ELSE 1 END) AS member
		FROM (SELECT team_id FROM team_groups WHERE connector = ? AND group_id IN ?
			UNION SELECT team_id FROM team_members WHERE user_id = ?) c
		JOIN team_groups g ON g.team_id = c.team_id AND g.connector = ?
		JOIN teams t ON t.id = c.team_id
		JOIN organizations o ON o.id = t.organization_id AND o.deleted = 0
		LEFT JOIN team_members p ON p.team_id = t.id AND p.user_id = ?
		LEFT JOIN members m ON m.organization_id = t.organization_id AND m.user_id = ?
		GROUP BY t.id, t.name, t.organization_id ORDER BY t.organization_id, t.name`,
		groups, connector, groups, userID, connector, userID, userID).Scan(&rows).Error
	places := make([]teamPlace, len(rows))
	for i, row := range rows {
		places[i] = teamPlace{row.TeamID, row.Name, row.OrganizationID, row.Wanted != 0, row.Present != 0, row.Member != 0}
	}
	return places, err
}

// groupsOfTeams returns the groups of teams.
func (s store) groupsOfTeams(ctx context.Context, teams []string) (map[string][]group, error) {
	var rows []struct{ TeamID, Connector, GroupID string }
	err := s.db.Conn(ctx).Raw("SELECT team_id, connector, group_id FROM team_groups WHERE team_id IN ?", teams).Scan(&rows).Error
	out := make(map[string][]group)
	for _, row := range rows {
		out[row.TeamID] = append(out[row.TeamID], group{row.Connector, row.GroupID})
	}
	return out, err
}

type joinRow struct {
	OrganizationID string
	UserID         string
	Role           string
	Created        int64
	Source         string
}

func (joinRow) TableName() string { return "members" }

// insertBatch bounds the rows of one insertion: a statement has a limited number of
// parameters.
const insertBatch = 500

func (s store) join(ctx context.Context, rows []joinRow, now time.Time) error {
	for i := range rows {
		rows[i].Created = database.Micros(now)
	}
	return s.db.Conn(ctx).Clauses(clause.OnConflict{DoNothing: true}).CreateInBatches(&rows, insertBatch).Error
}

// leaveOrganizations takes a user out of organizations and what belongs to them.
func (s store) leaveOrganizations(ctx context.Context, userID string, organizations []string) error {
	for _, statement := range []string{
		"DELETE FROM members WHERE user_id = ? AND organization_id IN ?",
		"DELETE FROM team_members WHERE user_id = ? AND team_id IN (SELECT id FROM teams WHERE organization_id IN ?)",
		"DELETE FROM sso_sessions WHERE user_id = ? AND organization_id IN ?",
	} {
		if err := s.db.Conn(ctx).Exec(statement, userID, organizations).Error; err != nil {
			return err
		}
	}
	return s.db.Conn(ctx).Exec("UPDATE organizations SET break_glass = '' WHERE id IN ? AND break_glass = ?", organizations, userID).Error
}

type mirrorRow struct {
	ID             string
	OrganizationID string
	Folded         string
	Name           string
	DisplayName    string
	Description    string
	Kind           string
	Created        int64
}

func (mirrorRow) TableName() string { return "teams" }

type mirrorGroupRow struct {
	OrganizationID string
	Connector      string
	GroupID        string
	GroupPath      string
	TeamID         string
}

func (mirrorGroupRow) TableName() string { return "team_groups" }

// teamNames returns the folded names of the teams of organizations.
func (s store) teamNames(ctx context.Context, organizations []string) (map[string]map[string]bool, error) {
	var rows []struct{ OrganizationID, Folded string }
	err := s.db.Conn(ctx).Raw("SELECT organization_id, folded FROM teams WHERE organization_id IN ?", organizations).Scan(&rows).Error
	names := make(map[string]map[string]bool)
	for _, row := range rows {
		if names[row.OrganizationID] == nil {
			names[row.OrganizationID] = make(map[string]bool)
		}
		names[row.OrganizationID][row.Folded] = true
	}
	return names, err
}

func (s store) insertMirrors(ctx context.Context, teams []mirrorRow, groups []mirrorGroupRow, now time.Time) error {
	for i := range teams {
		teams[i].Created = database.Micros(now)
	}
	result := s.db.Conn(ctx).Clauses(clause.OnConflict{DoNothing: true}).CreateInBatches(&teams, insertBatch)
	if result.Error != nil {
		return result.Error
	}
	if result.RowsAffected != int64(len(teams)) {
		return errRival // a team of that name was made meanwhile
	}
	return s.db.Conn(ctx).CreateInBatches(&groups, insertBatch).Error
}

type teamMemberInsert struct {
	TeamID  string
	UserID  string
	Role    string
	Created int64
}

func (teamMemberInsert) TableName() string { return "team_members" }

func (s store) joinTeams(ctx context.Context, userID string, teams []string, now time.Time) error {
	if len(teams) == 0 {
		return nil
	}
	rows := make([]teamMemberInsert, len(teams))
	for i, id := range teams {
		rows[i] = teamMemberInsert{TeamID: id, UserID: userID, Role: string(RoleMember), Created: database.Micros(now)}
	}
	return s.db.Conn(ctx).Clauses(clause.OnConflict{DoNothing: true}).CreateInBatches(&rows, insertBatch).Error
}

func (s store) leaveTeams(ctx context.Context, userID string, teams []string) error {
	if len(teams) == 0 {
		return nil
	}
	_, err := gorm.G[teamMemberInsert](s.db.Conn(ctx)).Where("user_id = ? AND team_id IN ?", userID, teams).Delete(ctx)
	return err
}
