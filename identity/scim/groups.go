package scim

import (
	"context"
	"net/http"
	"strconv"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
)

func (c *call) groups() kind {
	return kind{
		create: c.createGroup,
		read:   c.readGroup,
		put: func(id string) error {
			return c.changeGroup(id, func(g *change, body resource) error { return g.replace(body) })
		},
		patch:   func(id string) error { return c.changeGroup(id, patchGroup) },
		destroy: c.deleteGroup,
		list: func(q query) error {
			return answerList(c, source[group]{
				schema: groupSchema, columns: groupColumns, count: c.store.countGroups, page: c.store.groups, render: c.renderGroups,
			}, q)
		},
	}
}

// renderGroups returns groups as they are sent, with their members where q needs them.
func (c *call) renderGroups(ctx context.Context, groups []group, q query) ([]resource, error) {
	needed := q.wants("members") || q.filter.mentions("members")
	members := make(map[string][]reference)
	if needed {
		ids := make([]string, len(groups))
		for i, g := range groups {
			ids[i] = g.id
		}
		var err error
		if members, err = c.store.membersOf(ctx, c.organization.ID, ids); err != nil {
			return nil, err
		}
	}
	out := make([]resource, len(groups))
	for i, g := range groups {
		of := members[g.id]
		if needed && of == nil {
			of = []reference{}
		}
		out[i] = g.resource(c.base, of)
	}
	return out, nil
}

func (c *call) showGroup(status int, g group) error {
	q, err := c.fromURL()
	if err != nil {
		return err
	}
	shown, err := c.renderGroups(c.r.Context(), []group{g}, q)
	if err != nil {
		return err
	}
	return c.show(status, g.meta, shown[0], q)
}

func (c *call) readGroup(id string) error {
	g, err := c.store.group(c.r.Context(), c.organization.ID, id)
	if err != nil || c.unchanged(g.meta) {
		return err
	}
	return c.showGroup(http.StatusOK, g)
}

func (c *call) createGroup() error {
	body, err := readObject(c.r)
	if err != nil {
		return err
	}
	var made group
	err = c.db.Tx(c.r.Context(), func(ctx context.Context) error {
		var g change
		if err := g.replace(body); err != nil {
			return err
		}
		now, err := c.store.clock(ctx)
		if err != nil {
			return err
		}
		g.meta = meta{created: now, modified: now, version: 1}
		name, err := c.freeName(ctx, teamName(g.displayName))
		if err != nil {
			return err
		}
		team, err := c.directory.CreateTeam(ctx, c.actor, c.organization.ID, identity.NewTeam{Name: name, DisplayName: g.displayName, Kind: "scim"})
		if err != nil {
			return err
		}
		g.id, g.team = team.ID, team.Name
		made = g.group
		if err := c.store.insertGroup(ctx, c.organization.ID, made); err != nil {
			return err
		}
		_, err = c.setMembers(ctx, team.ID, g.members)
		return err
	})
	if err != nil {
		return typed(err)
	}
	return c.showGroup(http.StatusCreated, made)
}

// maxTries bounds the names that are tried for a team.
const maxTries = 100

// freeName returns a name that no team has: the given one, or with -2, -3 and so on.
func (c *call) freeName(ctx context.Context, name string) (string, error) {
	try := name
	for n := 2; n <= maxTries; n++ {
		_, err := c.directory.Team(ctx, c.organization.ID, try)
		if errs.KindOf(err) == errs.NotFound {
			return try, nil
		}
		if err != nil {
			return "", err
		}
		suffix := "-" + strconv.Itoa(n)
		try = name[:min(len(name), maxTeam-len(suffix))] + suffix
	}
	return "", taken("there are %d teams with names like that", maxTries)
}

func patchGroup(g *change, body resource) error {
	ops, err := operations(body)
	if err != nil {
		return err
	}
	for _, o := range ops {
		if err := o.apply(g); err != nil {
			return err
		}
	}
	return nil
}

// changeGroup makes of a group what a PUT or PATCH says.
func (c *call) changeGroup(id string, apply func(*change, resource) error) error {
	body, err := readObject(c.r)
	if err != nil {
		return err
	}
	var after group
	err = c.db.Tx(c.r.Context(), func(ctx context.Context) error {
		before, err := c.store.lockGroup(ctx, c.organization.ID, id)
		if err != nil {
			return err
		}
		if err := c.matched(before.meta); err != nil {
			return err
		}
		g := change{group: before, current: func() ([]reference, error) {
			members, err := c.store.membersOf(ctx, c.organization.ID, []string{id})
			return members[id], err
		}}
		if err := apply(&g, body); err != nil {
			return err
		}
		after = g.group
		told, err := c.setMembers(ctx, id, g.members)
		if err != nil {
			return err
		}
		if before == after && !told {
			return nil
		}
		if before.displayName != after.displayName {
			_, err := c.directory.UpdateTeam(ctx, c.actor, c.organization.ID, after.team, identity.TeamChange{DisplayName: &after.displayName})
			if err != nil {
				return err
			}
		}
		if before.externalID != after.externalID { // which the team does not have
			err := c.record(ctx, c.organization.ID, c.actor.Did(audit.Event{
				Name: "scim-group-changed", Object: "team:" + after.team, Decision: audit.Allow,
				Description: "The identity provider changed what it calls team " + after.team,
				Before:      facts("externalId", before.externalID), After: facts("externalId", after.externalID),
			}))
			if err != nil {
				return err
			}
		}
		if after.meta.modified, err = c.store.clock(ctx); err != nil {
			return err
		}
		after.meta.version++
		return c.store.updateGroup(ctx, c.organization.ID, after)
	})
	if err != nil {
		return typed(err)
	}
	if c.r.Method == http.MethodPatch && !c.r.URL.Query().Has("attributes") {
		// RFC 7644 §3.5.2 allows for it, and a large group costs more to show than to change.
		c.w.Header().Set("ETag", after.meta.etag())
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return c.showGroup(http.StatusOK, after)
}

// setMembers changes who is in a group, and reports whether there was anything to
// change. Those who are to be in it must be users of the organization.
func (c *call) setMembers(ctx context.Context, id string, m membership) (bool, error) {
	in, out := m.split()
	found, err := c.store.provisioned(ctx, c.organization.ID, in)
	if err != nil {
		return false, err
	}
	for _, user := range in {
		if !found[user] {
			return false, refuse(invalidValue, "%s is not a user of this organization", shown(user))
		}
	}
	if m.all {
		return true, c.directory.ReplaceTeamMembers(ctx, c.actor, c.organization.ID, id, in)
	}
	if len(out) > 0 {
		if err := c.directory.RemoveTeamMembers(ctx, c.actor, c.organization.ID, id, out); err != nil {
			return false, err
		}
	}
	if len(in) > 0 {
		if err := c.directory.AddTeamMembers(ctx, c.actor, c.organization.ID, id, in); err != nil {
			return false, err
		}
	}
	return len(in)+len(out) > 0, nil
}

func (c *call) deleteGroup(id string) error {
	err := c.db.Tx(c.r.Context(), func(ctx context.Context) error {
		g, err := c.store.lockGroup(ctx, c.organization.ID, id)
		if err != nil {
			return err
		}
		if err := c.matched(g.meta); err != nil {
			return err
		}
		if err := c.directory.DeleteTeam(ctx, c.actor, c.organization.ID, g.team); err != nil {
			return err
		}
		return c.store.deleteGroup(ctx, c.organization.ID, id)
	})
	if err != nil {
		return typed(err)
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}
