package identity

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/ipuka/ipuka/audit"
)

// maxGroups bounds the groups of one person that are looked at.
const maxGroups = 500

// lookedAt returns the groups that count, without those that nothing could be stored
// by, and how many were too many. A group's name is an identifier of the provider and
// nothing else: it never names a role or a permission here.
func lookedAt(groups []Group) ([]Group, int) {
	if groups == nil {
		return nil, 0
	}
	kept := make([]Group, 0, min(len(groups), maxGroups))
	seen := make(map[string]bool)
	ignored := 0
	for _, g := range groups {
		switch {
		case !storable(g.ID) || seen[g.ID] || g.Parent != "" && !storable(g.Parent):
			continue
		case len(kept) == maxGroups:
			ignored++
			continue
		}
		seen[g.ID] = true
		g.Path, g.Name = clean(g.Path, maxSubject), clean(g.Name, maxSubject)
		if g.Path == "" {
			g.Path = clean(g.ID, maxSubject)
		}
		kept = append(kept, g)
	}
	return kept, ignored
}

// following is somebody whose memberships and teams follow what a provider says.
type following struct {
	c       ConnectorInfo
	user    User
	subject string
	groups  []Group // nil: the provider does not say, so nothing is taken away
	gone    bool    // the provider does not let them in any more
	now     time.Time
}

// tells reports whether the provider has said which groups they are in.
func (f following) tells() bool { return f.groups != nil || f.gone }

// group is a group by the connector that has it.
type group struct{ connector, id string }

// follow makes user a member of the organizations whose members the groups are, and
// of the teams that go with the groups, and ends what came from groups that they are
// not in any more. It asks the same few questions whatever the number of groups.
//
// It looks without locks first: mostly there is nothing to change.
func (d *Directory) follow(ctx context.Context, t *trail, f following) error {
	if f.c.Kind == KindEmail {
		return nil
	}
	held, err := d.heldGroups(ctx, f)
	if err != nil {
		return err
	}
	plan, err := d.plan(ctx, f, held)
	if err != nil || plan.empty() {
		return err
	}
	if err := d.store.lockOrganizations(ctx, plan.organizations()); err != nil {
		return err
	}
	members, err := d.planMembers(ctx, f, held)
	if err != nil {
		return err
	}
	if err := d.applyMembers(ctx, t, f, members); err != nil {
		return err
	}
	teams, err := d.planTeams(ctx, f, held)
	if err != nil {
		return err
	}
	return d.applyTeams(ctx, t, f, teams)
}

// heldGroups returns the groups of all identities of the user that are in use, those
// of the arrival as it says itself: two identities at one provider, and two providers
// of one team, do not take away what the other gives.
func (d *Directory) heldGroups(ctx context.Context, f following) (map[group]Group, error) {
	rows, err := d.store.identityRows(ctx, f.user.ID)
	if err != nil {
		return nil, err
	}
	held := make(map[group]Group)
	add := func(connector string, groups []Group) {
		for _, g := range groups {
			at := group{connector, g.ID}
			g.Admin = g.Admin || held[at].Admin
			held[at] = g
		}
	}
	for _, row := range rows {
		if row.Withdrawn != 0 || row.Connector == f.c.Name && row.Subject == f.subject {
			continue
		}
		groups, err := decodeGroups(row.Groups)
		if err != nil {
			return nil, err
		}
		add(row.Connector, groups)
	}
	add(f.c.Name, f.groups)
	return held, nil
}

// here returns the groups of one connector.
func here(held map[group]Group, connector string) []Group {
	var out []Group
	for at, g := range held {
		if at.connector == connector {
			out = append(out, g)
		}
	}
	slices.SortFunc(out, func(a, b Group) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

func ids(groups []Group) []string {
	out := make([]string, len(groups))
	for i, g := range groups {
		out[i] = g.ID
	}
	return out
}

// plan is what is to change.
type plan struct {
	memberPlan
	teamPlan
}

type memberPlan struct {
	joins, leaves []backedOrganization
	mirrors       []mirror // teams to be made
}

type mirror struct {
	in    backedOrganization
	group Group
}

type teamPlan struct{ joins, leaves []teamPlace }

func (p plan) empty() bool { return len(p.organizations()) == 0 }

// organizations returns whose members or teams change, in the order in which they are
// locked.
func (p plan) organizations() []string {
	touched := make(map[string]bool)
	for _, o := range slices.Concat(p.memberPlan.joins, p.memberPlan.leaves) {
		touched[o.ID] = true
	}
	for _, m := range p.mirrors {
		touched[m.in.ID] = true
	}
	for _, t := range slices.Concat(p.teamPlan.joins, p.teamPlan.leaves) {
		touched[t.OrganizationID] = true
	}
	return slices.Sorted(maps.Keys(touched))
}

func (d *Directory) plan(ctx context.Context, f following, held map[group]Group) (plan, error) {
	members, err := d.planMembers(ctx, f, held)
	if err != nil {
		return plan{}, err
	}
	teams, err := d.planTeams(ctx, f, held)
	return plan{members, teams}, err
}

func (d *Directory) planMembers(ctx context.Context, f following, held map[group]Group) (memberPlan, error) {
	var p memberPlan
	groups := here(held, f.c.Name)
	backed, err := d.store.backedOrganizations(ctx, f.c.Name, f.user.ID, ids(groups))
	if err != nil {
		return p, err
	}
	parents := make(map[string][]Group)
	for _, g := range groups {
		if g.Parent != "" {
			parents[g.Parent] = append(parents[g.Parent], g)
		}
	}
	for _, o := range backed {
		wanted := f.belongs(o, held)
		switch {
		case wanted && o.Role == "":
			o.Admin = o.mirrored() && held[group{f.c.Name, o.BackingID}].Admin
			p.joins = append(p.joins, o)
		case !wanted && o.Source == f.c.Name && f.tells():
			p.leaves = append(p.leaves, o)
		}
		if wanted && o.mirrored() {
			for _, g := range parents[o.BackingID] {
				p.mirrors = append(p.mirrors, mirror{o, g})
			}
		}
	}
	p.mirrors, err = d.unmirrored(ctx, f, p.mirrors)
	return p, err
}

// belongs reports whether the provider's word makes somebody a member of o.
func (f following) belongs(o backedOrganization, held map[group]Group) bool {
	if OrganizationKind(o.Kind) == KindSAMLBacked {
		return o.ID == f.c.OrganizationID && !f.gone
	}
	_, in := held[group{f.c.Name, o.BackingID}]
	return in && f.tells() && o.BackingID != "" && f.c.OrganizationID == ""
}

// unmirrored returns the groups that no team goes with yet.
func (d *Directory) unmirrored(ctx context.Context, f following, candidates []mirror) ([]mirror, error) {
	if len(candidates) == 0 {
		return nil, nil
	}
	organizations, groups := make(map[string]bool), make(map[string]bool)
	for _, m := range candidates {
		organizations[m.in.ID], groups[m.group.ID] = true, true
	}
	known, err := d.store.mappedGroups(ctx, f.c.Name, slices.Sorted(maps.Keys(organizations)), slices.Sorted(maps.Keys(groups)))
	return slices.DeleteFunc(candidates, func(m mirror) bool { return known[[2]string{m.in.ID, m.group.ID}] }), err
}

func (d *Directory) planTeams(ctx context.Context, f following, held map[group]Group) (teamPlan, error) {
	var p teamPlan
	if !f.tells() {
		return p, nil
	}
	places, err := d.store.teamPlaces(ctx, f.c.Name, f.user.ID, ids(here(held, f.c.Name)))
	if err != nil {
		return p, err
	}
	for _, place := range places {
		switch {
		case place.Wanted && !place.Present && place.Member:
			p.joins = append(p.joins, place)
		case place.Present && (!place.Wanted || !place.Member):
			p.leaves = append(p.leaves, place)
		}
	}
	if len(p.leaves) == 0 {
		return p, nil
	}
	// Somebody may be in a team because of another provider.
	others, err := d.store.groupsOfTeams(ctx, teamIDs(p.leaves))
	p.leaves = slices.DeleteFunc(p.leaves, func(place teamPlace) bool {
		return place.Member && slices.ContainsFunc(others[place.TeamID], func(g group) bool { _, in := held[g]; return in })
	})
	return p, err
}

func teamIDs(places []teamPlace) []string {
	out := make([]string, len(places))
	for i, p := range places {
		out[i] = p.TeamID
	}
	return out
}

func (d *Directory) applyMembers(ctx context.Context, t *trail, f following, p memberPlan) error {
	if err := d.join(ctx, t, f, p.joins); err != nil {
		return err
	}
	if err := d.leaveAll(ctx, t, f, p.leaves); err != nil {
		return err
	}
	return d.mirror(ctx, t, f, p.mirrors)
}

func (d *Directory) join(ctx context.Context, t *trail, f following, joins []backedOrganization) error {
	if len(joins) == 0 {
		return nil
	}
	rows := make([]joinRow, len(joins))
	for i, o := range joins {
		role := RoleMember
		if o.Admin {
			role = RoleAdmin
		}
		rows[i] = joinRow{OrganizationID: o.ID, UserID: f.user.ID, Role: string(role), Source: f.c.Name}
		t.add(o.ID, byItself(f.c, audit.Event{
			Name: "member-added", Object: "user:" + f.user.Login,
			Description: "Added " + f.user.Login + " to organization " + o.Login + " as " + string(role),
			After:       facts("user", f.user.ID, "role", string(role), "source", f.c.Name),
		}))
		t.touch(o.ID)
	}
	return d.store.join(ctx, rows, f.now)
}

func (d *Directory) leaveAll(ctx context.Context, t *trail, f following, leaves []backedOrganization) error {
	if len(leaves) == 0 {
		return nil
	}
	organizations := make([]string, len(leaves))
	for i, o := range leaves {
		organizations[i] = o.ID
		t.add(o.ID, byItself(f.c, audit.Event{
			Name: "member-removed", Object: "user:" + f.user.Login,
			Description: "Removed " + f.user.Login + " from organization " + o.Login + ", whose group they are not in any more",
			Before:      facts("user", f.user.ID, "role", o.Role, "source", f.c.Name),
		}))
		t.touch(o.ID)
	}
	return d.store.leaveOrganizations(ctx, f.user.ID, organizations)
}

// mirror makes the teams of groups that are seen for the first time.
func (d *Directory) mirror(ctx context.Context, t *trail, f following, mirrors []mirror) error {
	if len(mirrors) == 0 {
		return nil
	}
	taken, err := d.store.teamNames(ctx, mirroredIn(mirrors))
	if err != nil {
		return err
	}
	teams, groups := make([]mirrorRow, len(mirrors)), make([]mirrorGroupRow, len(mirrors))
	for i, m := range mirrors {
		name := freeTeamName(taken[m.in.ID], m.group)
		if taken[m.in.ID] == nil {
			taken[m.in.ID] = make(map[string]bool)
		}
		taken[m.in.ID][fold(name)] = true
		shown := cmp.Or(clean(m.group.Name, maxName), name)
		teams[i] = mirrorRow{
			ID: uuid.NewString(), OrganizationID: m.in.ID, Folded: fold(name), Name: name, DisplayName: shown, Kind: m.in.Kind,
		}
		groups[i] = mirrorGroupRow{
			OrganizationID: m.in.ID, Connector: f.c.Name, GroupID: m.group.ID, GroupPath: m.group.Path, TeamID: teams[i].ID,
		}
		t.add(m.in.ID, byItself(f.c, audit.Event{
			Name: "team-created", Object: "team:" + name, Description: "Created team " + name + " for group " + m.group.Path,
			After: facts("id", teams[i].ID, "name", name, "kind", m.in.Kind, "connector", f.c.Name, "group", m.group.ID),
		}))
		t.touch(m.in.ID)
	}
	return d.store.insertMirrors(ctx, teams, groups, f.now)
}

func mirroredIn(mirrors []mirror) []string {
	organizations := make(map[string]bool)
	for _, m := range mirrors {
		organizations[m.in.ID] = true
	}
	return slices.Sorted(maps.Keys(organizations))
}

// maxTeamName is the length of the longest name of a team, in bytes.
const maxTeamName = 100

// freeTeamName names the team of a group after the last part of its path.
func freeTeamName(taken map[string]bool, g Group) string {
	last := g.Path[strings.LastIndexByte(g.Path, '/')+1:]
	base := cmp.Or(grammaticalFrom(last, maxTeamName), grammaticalFrom(g.Name, maxTeamName), "team")
	for _, name := range nameChoices(base, maxTeamName) {
		if !taken[fold(name)] {
			return name
		}
	}
	return base + "-" + uuid.NewString()
}

func (d *Directory) applyTeams(ctx context.Context, t *trail, f following, p teamPlan) error {
	for _, place := range p.joins {
		t.add(place.OrganizationID, byItself(f.c, audit.Event{
			Name: "team-member-added", Object: "team:" + place.Name, Description: "Added " + f.user.Login + " to team " + place.Name,
			After: facts("user", f.user.ID, "login", f.user.Login, "role", string(RoleMember)),
		}))
		t.touch(place.OrganizationID)
	}
	for _, place := range p.leaves {
		t.add(place.OrganizationID, byItself(f.c, audit.Event{
			Name: "team-member-removed", Object: "team:" + place.Name, Description: "Removed " + f.user.Login + " from team " + place.Name,
			Before: facts("user", f.user.ID, "login", f.user.Login),
		}))
		t.touch(place.OrganizationID)
	}
	if err := d.store.joinTeams(ctx, f.user.ID, teamIDs(p.joins), f.now); err != nil {
		return err
	}
	return d.store.leaveTeams(ctx, f.user.ID, teamIDs(p.leaves))
}

// trail collects what one transaction has to tell at its end.
type trail struct {
	entries []trailEntry
	touched map[string]bool // organizations, "" for all
}

type trailEntry struct {
	log   string
	event audit.Event
}

func (t *trail) add(log string, e audit.Event) { t.entries = append(t.entries, trailEntry{log, e}) }

// touch has the listeners told of a change of an organization, once.
func (t *trail) touch(organizationID string) {
	if t.touched == nil {
		t.touched = make(map[string]bool)
	}
	t.touched[organizationID] = true
}

// finish records the events of a transaction at its end, log by log, the site's last.
// A transaction holds every log that it has written to until it is over: all of them
// go by the same order, so that none waits for one that waits for it, and the log
// that everybody needs is held the shortest.
func (d *Directory) finish(ctx context.Context, t trail) error {
	slices.SortStableFunc(t.entries, func(a, b trailEntry) int {
		switch {
		case a.log == b.log:
			return 0
		case a.log == audit.Site:
			return 1
		case b.log == audit.Site:
			return -1
		}
		return cmp.Compare(a.log, b.log)
	})
	for _, entry := range t.entries {
		if err := d.record(ctx, entry.log, entry.event); err != nil {
			return err
		}
	}
	for organizationID := range t.touched {
		d.changed(ctx, organizationID)
	}
	return nil
}
