package rbac

import (
	"cmp"
	"maps"
	"math/bits"
	"slices"
	"strings"
	"unicode"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
)

// Snapshot is the rules of one version, indexed for decisions. It never changes and
// is safe for concurrent use.
type Snapshot struct {
	version int64
	stale   bool // a change could not be read: refuse everything until it is
	policy  *policy

	// The maps lead to places in organizations. They are shared by all snapshots with
	// the same organizations, and never changed.
	byLogin, byFolded, byID map[string]int
	organizations           []*organization // an element is nil once the organization is gone

	byUser shards[string, []Org]
}

// organization is the rules of one organization.
type organization struct {
	Org
	former  []string         // names that it had, in lower case
	members map[string]roles // by user ID; without disabled users
	level   Level            // the default permission
	grants  shards[grantKey, grant]
}

type grantKey struct{ project, stack, user string }

// hash puts all grants on one stack into the same part.
func (k grantKey) hash() uint64 {
	return hash(k.project) ^ bits.RotateLeft64(hash(k.stack), 23)
}

type grant struct {
	level Level
	rule  string
}

func grantRule(l Level, login string) string {
	return "stack permission " + l.String() + " (granted to " + login + ")"
}

// What Decision.Rule says when no rule allows.
const (
	ruleStale             = "the access rules could not be read"
	ruleIncomplete        = "the request names no subject, permission or object"
	ruleNoOrganization    = "there is no such organization"
	ruleNotMember         = "not a member of the organization"
	ruleUnknownPermission = "there is no such permission"
)

// Decide says whether a user may do something to an object. It does not allocate.
func (s *Snapshot) Decide(userID string, permission Permission, object Object) Decision {
	switch {
	case s.stale:
		return Decision{Rule: ruleStale}
	case userID == "" || permission == "" || object.Organization == "" || object.Stack != "" && object.Project == "":
		return Decision{Rule: ruleIncomplete}
	}
	place, ok := s.byLogin[object.Organization]
	if !ok || s.organizations[place] == nil {
		return Decision{Rule: ruleNoOrganization}
	}
	org := s.organizations[place]
	role, ok := org.members[userID]
	if !ok {
		return Decision{Rule: ruleNotMember}
	}
	holders, known := s.policy.holders[permission]
	see, level, granted := s.policy.seeOrganization, None, grant{}
	if object.Stack != "" {
		see = s.policy.seeStack
		if role&organizationMember != 0 {
			key := grantKey{object.Project, object.Stack, userID}
			level = org.level
			granted, _ = org.grants.find(key.hash(), key)
		}
	}
	d := Decision{Visible: (role|level.role()|granted.level.role())&see != 0}
	switch {
	case !known:
		d.Rule = ruleUnknownPermission
	case role&holders != 0:
		d.Allow, d.Rule = true, roleRules[role&holders]
	case level.role()&holders != 0:
		d.Allow, d.Rule = true, defaultRules[level.role()]
	case granted.level.role()&holders != 0:
		d.Allow, d.Rule = true, granted.rule
	case object.Stack == "":
		d.Rule = "the organization role does not include it"
	default:
		d.Rule = lackRules[max(level, granted.level).role()]
	}
	return d
}

// The texts of rules, by role.
var (
	roleRules = [...]string{
		organizationMember:                     "organization role member",
		organizationAdmin:                      "organization role admin",
		organizationMember | organizationAdmin: "organization role admin",
	}
	defaultRules = [...]string{
		stackRead:  "organization default permission read",
		stackWrite: "organization default permission write",
		stackAdmin: "organization default permission admin",
	}
	lackRules = [...]string{
		0:          "no permission on the stack",
		stackRead:  "stack permission read does not include it",
		stackWrite: "stack permission write does not include it",
		stackAdmin: "stack permission admin does not include it",
	}
)

// Err returns nil, or errs.Unavailable when the rules could not be read after a
// change. Such a snapshot refuses everything; a caller is told that the service is
// unavailable and not that an object does not exist.
func (s *Snapshot) Err() error {
	if s.stale {
		return errs.Errorf(errs.Unavailable, "the access rules cannot be read now, try again")
	}
	return nil
}

// Version returns the version of the rules. It never decreases.
func (s *Snapshot) Version() int64 { return s.version }

// Organization returns the organization that has a name, or had it, in any case. Whether the caller
// may know of it is for Decide to say.
func (s *Snapshot) Organization(name string) (Org, bool) {
	place, ok := s.byLogin[name]
	if !ok && ascii(name) { // letters beyond ASCII may fold to letters within
		place, ok = s.byFolded[strings.ToLower(name)]
	}
	if !ok || s.organizations[place] == nil {
		return Org{}, false
	}
	return s.organizations[place].Org, true
}

func ascii(text string) bool {
	return !strings.ContainsFunc(text, func(c rune) bool { return c > unicode.MaxASCII })
}

// Organizations returns the organizations that a user is a member of, ordered by
// their lower-case names.
func (s *Snapshot) Organizations(userID string) []Org {
	orgs, _ := s.byUser.find(hash(userID), userID)
	return slices.Clone(orgs)
}

// All returns every organization, in no particular order: for site administrators.
func (s *Snapshot) All() []Org {
	all := make([]Org, 0, len(s.organizations))
	for _, org := range s.organizations {
		if org != nil {
			all = append(all, org.Org)
		}
	}
	return all
}

// rules are the rules as the database has them, and what a snapshot is made from.
type rules struct {
	version  int64
	rosters  []identity.Roster
	defaults map[string]Level // by organization ID, where it is not Read
	grants   []grantRow
}

// compile indexes all rules.
func compile(p *policy, r rules) *Snapshot {
	s := &Snapshot{version: r.version, policy: p}
	for _, roster := range r.rosters {
		s.organizations = append(s.organizations, newOrganization(roster, r.defaults))
	}
	s.index()
	texts := make(map[grant]string) // equal texts are one
	for _, row := range r.grants {
		place, ok := s.byID[row.OrgID]
		if !ok {
			continue
		}
		text := grant{Level(row.Level), row.Login}
		if texts[text] == "" {
			texts[text] = grantRule(text.level, text.rule)
		}
		key := grantKey{row.Project, row.Stack, row.UserID}
		s.organizations[place].grants.set(key.hash(), key, grant{text.level, texts[text]})
	}
	for _, org := range s.organizations {
		for user := range org.members {
			h := hash(user)
			orgs, _ := s.byUser.find(h, user)
			s.byUser.set(h, user, append(orgs, org.Org))
		}
	}
	s.byUser.parts(func(_ uint64, part map[string][]Org) {
		for _, orgs := range part {
			slices.SortFunc(orgs, compareOrgs)
		}
	})
	return s
}

func newOrganization(roster identity.Roster, defaults map[string]Level) *organization {
	org := &organization{
		Org:     Org{ID: roster.Organization.ID, Login: roster.Organization.Login, Key: roster.Organization.Key, SSO: roster.Organization.SSO},
		former:  roster.Former,
		members: make(map[string]roles, len(roster.Roles)),
		level:   Read,
	}
	if level, ok := defaults[org.ID]; ok {
		org.level = level
	}
	for user, role := range roster.Roles {
		switch {
		case user == "": // nobody
		case role == identity.RoleAdmin:
			org.members[user] = organizationAdmin
		case role == identity.RoleMember:
			org.members[user] = organizationMember
		}
	}
	return org
}

// index makes the maps that lead to places. Only somebody still making s calls it.
func (s *Snapshot) index() {
	n := len(s.organizations)
	s.byLogin, s.byFolded, s.byID = make(map[string]int, n), make(map[string]int, n), make(map[string]int, n)
	for place, org := range s.organizations {
		if org != nil {
			s.byLogin[org.Login], s.byFolded[strings.ToLower(org.Login)], s.byID[org.ID] = place, place, place
			for _, name := range org.former { // names are unique over all time
				s.byFolded[name] = place
			}
		}
	}
}

func compareOrgs(a, b Org) int {
	return cmp.Or(strings.Compare(strings.ToLower(a.Login), strings.ToLower(b.Login)), strings.Compare(a.ID, b.ID))
}

// change is what has been read again because a version touched it.
type change struct {
	touched

	found    bool            // of an organization: it is there
	roster   identity.Roster // of an organization
	defaults map[string]Level
	grants   []grantRow // of a stack, of a user, or of an organization that is new
}

// with returns the snapshot of a later version, in which the things in changes are
// as they were read and everything else is shared with s.
func (s *Snapshot) with(version int64, changes []change) *Snapshot {
	next := *s
	next.version, next.organizations = version, slices.Clone(s.organizations)
	for _, c := range changes {
		if c.Project == "" && c.UserID == "" {
			next.setOrganization(c)
		} else if place, ok := next.byID[c.OrgID]; ok {
			org := *next.organizations[place]
			if c.Project != "" {
				org.grants = withStack(org.grants, c.Project, c.Stack, c.grants)
			} else {
				org.grants = withUser(org.grants, c.UserID, c.grants)
			}
			next.organizations[place] = &org
		}
	}
	return &next
}

// setOrganization takes over an organization and its members, in a snapshot that
// nobody has seen yet.
func (s *Snapshot) setOrganization(c change) {
	place, known := s.byID[c.OrgID]
	var old, org *organization
	if known {
		old = s.organizations[place]
	}
	if c.found {
		org = newOrganization(c.roster, c.defaults)
	}
	switch {
	case old == nil && org == nil:
		return
	case old == nil:
		for _, row := range c.grants {
			key, level := grantKey{row.Project, row.Stack, row.UserID}, Level(row.Level)
			org.grants.set(key.hash(), key, grant{level, grantRule(level, row.Login)})
		}
		s.organizations = append(s.organizations, org)
	case org == nil:
		s.organizations[place] = nil
	default:
		org.grants = old.grants
		s.organizations[place] = org
	}
	if old == nil || org == nil || old.Org != org.Org {
		s.index()
	}
	s.setMembers(old, org)
}

// setMembers keeps byUser in step with the members of an organization.
func (s *Snapshot) setMembers(old, org *organization) {
	users := make(map[string]bool)
	for _, o := range []*organization{old, org} {
		if o != nil {
			for user := range maps.Keys(o.members) {
				users[user] = true
			}
		}
	}
	for user := range users {
		was, is := old != nil && old.members[user] != 0, org != nil && org.members[user] != 0
		if was && is && old.Org == org.Org {
			continue
		}
		s.byUser = s.byUser.with(hash(user), func(part map[string][]Org) {
			orgs := slices.Clone(part[user])
			if was {
				orgs = slices.DeleteFunc(orgs, func(o Org) bool { return o == old.Org })
			}
			if is {
				orgs = append(orgs, org.Org)
				slices.SortFunc(orgs, compareOrgs)
			}
			if part[user] = orgs; len(orgs) == 0 {
				delete(part, user)
			}
		})
	}
}

// withStack returns grants with those of one stack replaced by rows.
func withStack(grants shards[grantKey, grant], project, stack string, rows []grantRow) shards[grantKey, grant] {
	return grants.with(grantKey{project: project, stack: stack}.hash(), func(part map[grantKey]grant) {
		maps.DeleteFunc(part, func(k grantKey, _ grant) bool { return k.project == project && k.stack == stack })
		for _, row := range rows {
			level := Level(row.Level)
			part[grantKey{project, stack, row.UserID}] = grant{level, grantRule(level, row.Login)}
		}
	})
}

// withUser returns grants with those of one user replaced by rows. It looks at all
// of them, as only somebody's leaving the organization makes it necessary.
func withUser(grants shards[grantKey, grant], user string, rows []grantRow) shards[grantKey, grant] {
	next := grants
	grants.parts(func(h uint64, part map[grantKey]grant) {
		for key := range part {
			if key.user == user {
				next = next.with(h, func(part map[grantKey]grant) {
					maps.DeleteFunc(part, func(k grantKey, _ grant) bool { return k.user == user })
				})
				return
			}
		}
	})
	for _, row := range rows {
		key, level := grantKey{row.Project, row.Stack, user}, Level(row.Level)
		next = next.with(key.hash(), func(part map[grantKey]grant) { part[key] = grant{level, grantRule(level, row.Login)} })
	}
	return next
}
