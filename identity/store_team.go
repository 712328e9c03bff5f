package identity

import (
	"context"
	"time"

	"github.com/go-json-experiment/json"
	"gorm.io/gorm"

	"github.com/ipuka/ipuka/internal/database"
)

type teamRow struct {
	ID             string
	OrganizationID string
	Folded         string
	Name           string
	DisplayName    string
	Description    string
	Kind           string
	Created        int64
}

func (teamRow) TableName() string { return "teams" }

type teamGroupRow struct {
	OrganizationID string
	Connector      string
	GroupID        string
	GroupPath      string
	TeamID         string
}

func (teamGroupRow) TableName() string { return "team_groups" }

func (s store) insertTeam(ctx context.Context, t Team) error {
	err := gorm.G[teamRow](s.db.Conn(ctx)).Create(ctx, &teamRow{
		ID: t.ID, OrganizationID: t.OrganizationID, Folded: fold(t.Name), Name: t.Name, DisplayName: t.DisplayName,
		Description: t.Description, Kind: string(t.Kind), Created: database.Micros(t.Created),
	})
	if err != nil {
		return teamTaken(err, t.Name)
	}
	for _, g := range t.Groups {
		if err := s.insertTeamGroup(ctx, t, g); err != nil {
			return err
		}
	}
	return nil
}

func teamTaken(err error, name string) error {
	return taken(err, "the organization has a team %q already", name)
}

func (s store) saveTeam(ctx context.Context, t Team) error {
	err := s.db.Conn(ctx).Exec("UPDATE teams SET folded = ?, name = ?, display_name = ?, description = ?, kind = ? WHERE id = ?",
		fold(t.Name), t.Name, t.DisplayName, t.Description, string(t.Kind), t.ID).Error
	return teamTaken(err, t.Name)
}

func (s store) deleteTeam(ctx context.Context, id string) error {
	for _, statement := range []string{
		"DELETE FROM team_members WHERE team_id = ?",
		"DELETE FROM team_groups WHERE team_id = ?",
		"DELETE FROM teams WHERE id = ?",
	} {
		if err := s.db.Conn(ctx).Exec(statement, id).Error; err != nil {
			return err
		}
	}
	return nil
}

func (s store) insertTeamGroup(ctx context.Context, t Team, g TeamGroup) error {
	return gorm.G[teamGroupRow](s.db.Conn(ctx)).Create(ctx, &teamGroupRow{
		OrganizationID: t.OrganizationID, Connector: g.Connector, GroupID: g.Group.ID, GroupPath: g.Group.Path, TeamID: t.ID,
	})
}

func (s store) deleteTeamGroup(ctx context.Context, t Team, g TeamGroup) error {
	_, err := gorm.G[teamGroupRow](s.db.Conn(ctx)).
		Where("organization_id = ? AND connector = ? AND group_id = ? AND team_id = ?", t.OrganizationID, g.Connector, g.Group.ID, t.ID).Delete(ctx)
	return err
}

const teamColumns = `SELECT t.*, (SELECT count(*) FROM team_members tm WHERE tm.team_id = t.id) AS members
	FROM teams t JOIN organizations o ON o.id = t.organization_id AND o.deleted = 0 WHERE t.organization_id = ?`

func (s store) teams(ctx context.Context, organizationID string) ([]Team, error) {
	return s.selectTeams(ctx, organizationID, teamColumns+" ORDER BY t.folded", organizationID)
}

func (s store) teamsOf(ctx context.Context, organizationID, userID string) ([]Team, error) {
	return s.selectTeams(ctx, organizationID, teamColumns+
		" AND t.id IN (SELECT team_id FROM team_members WHERE user_id = ?) ORDER BY t.folded", organizationID, userID)
}

func (s store) teamByName(ctx context.Context, organizationID, folded string) (Team, error) {
	return oneTeam(s.selectTeams(ctx, organizationID, teamColumns+" AND t.folded = ?", organizationID, folded))
}

func (s store) teamByID(ctx context.Context, organizationID, id string) (Team, error) {
	return oneTeam(s.selectTeams(ctx, organizationID, teamColumns+" AND t.id = ?", organizationID, id))
}

func oneTeam(teams []Team, err error) (Team, error) {
	if err != nil {
		return Team{}, err
	}
	if len(teams) == 0 {
		return Team{}, errNoTeam()
	}
	return teams[0], nil
}

// selectTeams returns the teams that a query with teamColumns finds, with their groups.
func (s store) selectTeams(ctx context.Context, organizationID, query string, args ...any) ([]Team, error) {
	var rows []struct {
		Team    teamRow `gorm:"embedded"`
		Members int64
	}
	if err := s.db.Reader(ctx).Raw(query, args...).Scan(&rows).Error; err != nil || len(rows) == 0 {
		return nil, err
	}
	out := make([]Team, len(rows))
	at := make(map[string]*Team, len(rows))
	for i, row := range rows {
		out[i] = Team{
			ID: row.Team.ID, OrganizationID: row.Team.OrganizationID, Name: row.Team.Name, DisplayName: row.Team.DisplayName,
			Description: row.Team.Description, Kind: TeamKind(row.Team.Kind), Members: row.Members, Created: database.Time(row.Team.Created),
		}
		at[out[i].ID] = &out[i]
	}
	groups := gorm.G[teamGroupRow](s.db.Reader(ctx)).Where("organization_id = ?", organizationID)
	if len(out) == 1 {
		groups = groups.Where("team_id = ?", out[0].ID)
	}
	found, err := groups.Order("connector, group_path, group_id").Find(ctx)
	for _, g := range found {
		if t := at[g.TeamID]; t != nil {
			t.Groups = append(t.Groups, TeamGroup{Connector: g.Connector, Kind: ConnectorKind(t.Kind), Group: Group{ID: g.GroupID, Path: g.GroupPath}})
		}
	}
	return out, err
}

func (s store) teamMembers(ctx context.Context, teamID string) ([]TeamMember, error) {
	var rows []struct {
		User   userRow `gorm:"embedded"`
		Role   string
		Joined int64
	}
	err := s.db.Reader(ctx).Raw(`SELECT u.*, tm.role, tm.created AS joined
		FROM team_members tm JOIN users u ON u.id = tm.user_id JOIN teams t ON t.id = tm.team_id
		JOIN organizations o ON o.id = t.organization_id AND o.deleted = 0
		WHERE tm.team_id = ? ORDER BY lower(u.login)`, teamID).Scan(&rows).Error
	out := make([]TeamMember, len(rows))
	for i, row := range rows {
		out[i] = TeamMember{User: row.User.user(), Role: TeamRole(row.Role), Created: database.Time(row.Joined)}
	}
	return out, err
}

func (s store) teamRole(ctx context.Context, teamID, userID string) (TeamRole, error) {
	var roles []string
	err := s.db.Reader(ctx).Raw(`SELECT tm.role FROM team_members tm JOIN teams t ON t.id = tm.team_id
		JOIN organizations o ON o.id = t.organization_id AND o.deleted = 0
		WHERE tm.team_id = ? AND tm.user_id = ?`, teamID, userID).Scan(&roles).Error
	if err != nil || len(roles) == 0 {
		return TeamNobody, err
	}
	return TeamRole(roles[0]), nil
}

func (s store) setTeamRole(ctx context.Context, teamID, userID string, role TeamRole) error {
	return s.db.Conn(ctx).Exec("UPDATE team_members SET role = ? WHERE team_id = ? AND user_id = ?", string(role), teamID, userID).Error
}

func (s store) teamMemberIDs(ctx context.Context, teamID string) (map[string]bool, error) {
	var ids []string
	err := s.db.Reader(ctx).Raw("SELECT user_id FROM team_members WHERE team_id = ?", teamID).Scan(&ids).Error
	out := make(map[string]bool, len(ids))
	for _, id := range ids {
		out[id] = true
	}
	return out, err
}

// among restricts column to a list of IDs of any length, with the one value to bind.
// A list of parameters would do for a few: PostgreSQL compares each row with each of
// them once it has planned such a statement for all values.
func (s store) among(column string, ids []string) (string, string, error) {
	text, err := json.Marshal(ids)
	if err != nil {
		return "", "", err
	}
	if s.db.Dialect() == database.PostgreSQL {
		return column + " IN (SELECT json_array_elements_text(CAST(? AS JSON)))", string(text), nil
	}
	return column + " IN (SELECT value FROM json_each(?))", string(text), nil
}

// insertTeamMembers adds those of the given users, none of whom is in the team, who
// are members of its organization, and returns how many they are.
func (s store) insertTeamMembers(ctx context.Context, t Team, userIDs []string, role TeamRole, now time.Time) (int64, error) {
	if len(userIDs) == 0 {
		return 0, nil
	}
	condition, ids, err := s.among("user_id", userIDs)
	if err != nil {
		return 0, err
	}
	result := s.db.Conn(ctx).Exec(`INSERT INTO team_members (team_id, user_id, role, created)
		SELECT CAST(? AS TEXT), user_id, CAST(? AS TEXT), CAST(? AS BIGINT) FROM members WHERE organization_id = ? AND `+condition,
		t.ID, string(role), database.Micros(now), t.OrganizationID, ids)
	return result.RowsAffected, result.Error
}

func (s store) deleteTeamMembers(ctx context.Context, teamID string, userIDs []string) error {
	if len(userIDs) == 0 {
		return nil
	}
	condition, ids, err := s.among("user_id", userIDs)
	if err != nil {
		return err
	}
	return s.db.Conn(ctx).Exec("DELETE FROM team_members WHERE team_id = ? AND "+condition, teamID, ids).Error
}

// membersAmong returns which of the given users are members of an organization.
func (s store) membersAmong(ctx context.Context, organizationID string, userIDs []string) (map[string]bool, error) {
	condition, ids, err := s.among("user_id", userIDs)
	if err != nil {
		return nil, err
	}
	var found []string
	err = s.db.Reader(ctx).Raw("SELECT user_id FROM members WHERE organization_id = ? AND "+condition, organizationID, ids).Scan(&found).Error
	out := make(map[string]bool, len(found))
	for _, id := range found {
		out[id] = true
	}
	return out, err
}
