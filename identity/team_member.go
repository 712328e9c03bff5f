package identity

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/internal/errs"
)

// TeamRole is what somebody is in a team.
type TeamRole string

// The roles. A team's administrators may change its members.
const (
	TeamAdmin  TeamRole = "admin"
	TeamPlain  TeamRole = "member"
	TeamNobody TeamRole = "none"
)

// TeamMember is somebody in a team.
type TeamMember struct {
	User    User
	Role    TeamRole
	Created time.Time
}

// TeamMembers returns the members of a team by login, disabled ones included.
func (d *Directory) TeamMembers(ctx context.Context, teamID string) ([]TeamMember, error) {
	return d.store.teamMembers(ctx, teamID)
}

// TeamRoleOf returns what a user is in a team; TeamNobody for somebody who is not in it.
func (d *Directory) TeamRoleOf(ctx context.Context, teamID, userID string) (TeamRole, error) {
	return d.store.teamRole(ctx, teamID, userID)
}

// SetTeamMember adds a member of the organization to a team, or changes their role in
// it. Somebody who is no member of the organization is errs.NotFound; a team that is
// kept elsewhere errs.Conflict. The role alone may be changed there.
func (d *Directory) SetTeamMember(ctx context.Context, actor Principal, organizationID, team, login string, role TeamRole) error {
	if role != TeamAdmin && role != TeamPlain {
		return errs.Errorf(errs.Invalid, "a role in a team is %q or %q", TeamAdmin, TeamPlain)
	}
	_, err := d.changeTeam(ctx, organizationID, team, func(ctx context.Context, o Organization, t *Team, now time.Time) error {
		user, _, err := d.member(ctx, o, login)
		if err != nil {
			return err
		}
		before, err := d.store.teamRole(ctx, t.ID, user.ID)
		if err != nil || before == role {
			return err
		}
		done := "Changed the role of " + user.Login + " in team "
		if before == TeamNobody {
			if t.ReadOnly() {
				return errKeptElsewhere(*t)
			}
			done = "Added " + user.Login + " to team "
			_, err = d.store.insertTeamMembers(ctx, *t, []string{user.ID}, role, now)
		} else {
			err = d.store.setTeamRole(ctx, t.ID, user.ID, role)
		}
		if err != nil {
			return err
		}
		return d.record(ctx, o.ID, actor.Did(audit.Event{
			Name: "team-updated", Object: "team:" + t.Name, Description: done + t.Name + " of organization " + o.Login,
			Before: facts("user", user.Login, "role", string(before)), After: facts("user", user.Login, "role", string(role)),
		}))
	})
	return err
}

// RemoveTeamMember takes somebody out of a team; errs.NotFound when they are not in
// it, errs.Conflict for a team that is kept elsewhere.
func (d *Directory) RemoveTeamMember(ctx context.Context, actor Principal, organizationID, team, login string) error {
	_, err := d.changeTeam(ctx, organizationID, team, func(ctx context.Context, o Organization, t *Team, _ time.Time) error {
		user, err := d.UserByLogin(ctx, login)
		if err != nil {
			return err
		}
		before, err := d.store.teamRole(ctx, t.ID, user.ID)
		if err != nil {
			return err
		}
		if before == TeamNobody {
			return errs.Errorf(errs.NotFound, "that user is not in the team")
		}
		if t.ReadOnly() {
			return errKeptElsewhere(*t)
		}
		if err := d.store.deleteTeamMembers(ctx, t.ID, []string{user.ID}); err != nil {
			return err
		}
		return d.record(ctx, o.ID, actor.Did(audit.Event{
			Name: "team-updated", Object: "team:" + t.Name, Description: "Removed " + user.Login + " from team " + t.Name + " of organization " + o.Login,
			Before: facts("user", user.Login, "role", string(before)), After: facts("user", user.Login, "role", string(TeamNobody)),
		}))
	})
	return err
}

func errKeptElsewhere(t Team) error {
	return errs.Errorf(errs.Conflict, "the members of team %s come from elsewhere (%s), change them there", t.Name, t.Kind)
}

// ReplaceTeamMembers is for whoever keeps a team of kind "scim" (errs.Conflict for any
// other): afterwards exactly the given users are in it, those who were before in the
// role they had. All must be members of the organization (errs.Invalid names the
// first that is not).
func (d *Directory) ReplaceTeamMembers(ctx context.Context, actor Principal, organizationID, teamID string, userIDs []string) error {
	return d.changeTeamMembers(ctx, actor, organizationID, teamID, func(before map[string]bool) (join, leave []string) {
		stay := make(map[string]bool, len(userIDs))
		for _, id := range userIDs {
			stay[id] = true
		}
		for id := range before {
			if !stay[id] {
				leave = append(leave, id)
			}
		}
		return without(userIDs, before), leave
	})
}

// AddTeamMembers and RemoveTeamMembers are the parts of ReplaceTeamMembers for large
// teams: somebody who is in it already, or is not, is left alone.
func (d *Directory) AddTeamMembers(ctx context.Context, actor Principal, organizationID, teamID string, userIDs []string) error {
	return d.changeTeamMembers(ctx, actor, organizationID, teamID, func(before map[string]bool) (join, leave []string) {
		return without(userIDs, before), nil
	})
}

// RemoveTeamMembers takes users out of a team of kind "scim".
func (d *Directory) RemoveTeamMembers(ctx context.Context, actor Principal, organizationID, teamID string, userIDs []string) error {
	return d.changeTeamMembers(ctx, actor, organizationID, teamID, func(before map[string]bool) (join, leave []string) {
		for _, id := range without(userIDs, nil) {
			if before[id] {
				leave = append(leave, id)
			}
		}
		return nil, leave
	})
}

// without returns the different IDs that are not in known, in their order.
func without(ids []string, known map[string]bool) []string {
	var out []string
	seen := make(map[string]bool, len(ids))
	for _, id := range ids {
		if !known[id] && !seen[id] {
			seen[id] = true
			out = append(out, id)
		}
	}
	return out
}

// changeTeamMembers has users join and leave a team of kind "scim", as difference says
// when it is told who is in it. It is one event and a few queries, however many they are.
func (d *Directory) changeTeamMembers(ctx context.Context, actor Principal, organizationID, teamID string, difference func(before map[string]bool) (join, leave []string)) error {
	return d.changeMembers(ctx, organizationID, func(ctx context.Context, o Organization, now time.Time) error {
		team, err := d.store.teamByID(ctx, o.ID, teamID)
		if err != nil {
			return err
		}
		if team.Kind != TeamSCIM {
			return errs.Errorf(errs.Conflict, "the members of team %s are not kept by SCIM", team.Name)
		}
		before, err := d.store.teamMemberIDs(ctx, team.ID)
		if err != nil {
			return err
		}
		join, leave := difference(before)
		slices.Sort(leave)
		if len(join)+len(leave) == 0 {
			return nil
		}
		for _, id := range join {
			if clean(id, maxName) != id { // nothing the database would take for text
				return errStranger(o, id)
			}
		}
		joined, err := d.store.insertTeamMembers(ctx, team, join, TeamPlain, now)
		if err != nil {
			return err
		}
		if joined != int64(len(join)) {
			return d.nameStranger(ctx, o, join)
		}
		if err := d.store.deleteTeamMembers(ctx, team.ID, leave); err != nil {
			return err
		}
		return d.recordTeamMembers(ctx, actor, o, team, join, leave)
	})
}

// nameStranger returns an error that names the first of ids who is no member of o.
func (d *Directory) nameStranger(ctx context.Context, o Organization, ids []string) error {
	members, err := d.store.membersAmong(ctx, o.ID, ids)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if !members[id] {
			return errStranger(o, id)
		}
	}
	return errs.Errorf(errs.Conflict, "the members of organization %s have changed meanwhile, try again", o.Login)
}

func errStranger(o Organization, id string) error {
	return errs.Errorf(errs.Invalid, "user %q is not a member of organization %s", clean(id, maxName), o.Login)
}

// maxNamed bounds the logins that one event names.
const maxNamed = 50

func (d *Directory) recordTeamMembers(ctx context.Context, actor Principal, o Organization, team Team, join, leave []string) error {
	named := slices.Concat(join[:min(len(join), maxNamed)], leave[:min(len(leave), maxNamed)])
	users, err := d.store.usersByID(ctx, named)
	if err != nil {
		return err
	}
	logins := func(ids []string) string {
		var out []string
		for _, id := range ids[:min(len(ids), maxNamed)] {
			out = append(out, users[id].Login)
		}
		return strings.Join(out, ", ")
	}
	joined, left := strconv.Itoa(len(join)), strconv.Itoa(len(leave))
	return d.record(ctx, o.ID, actor.Did(audit.Event{
		Name: "team-updated", Object: "team:" + team.Name,
		Description: "Changed who is in team " + team.Name + " of organization " + o.Login + ": " + joined + " joined, " + left + " left",
		Details:     facts("joined", joined, "left", left),
		Before:      facts("left", logins(leave)), After: facts("joined", logins(join)),
	}))
}
