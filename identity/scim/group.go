package scim

import (
	"slices"
	"strings"
)

// group is a team as the identity provider describes it.
type group struct {
	id          string // of the team
	team        string // its name now
	externalID  string
	displayName string
	meta        meta
}

// resource returns g as it is sent. members is nil when they were not looked up.
func (g group) resource(base string, members []reference) resource {
	r := resource{
		"schemas": []any{groupSchema}, "id": g.id, "displayName": g.displayName,
		"meta": g.meta.resource("Group", base+"/Groups/"+g.id),
	}
	put(r, "externalId", g.externalID)
	if members != nil {
		r["members"] = references(members, base+"/Users/", "User")
	}
	return r
}

// change is what a request makes of a group.
type change struct {
	group
	members membership
	// current returns the members that there are now, for a path that asks about more
	// than their IDs.
	current func() ([]reference, error)
}

// membership is what becomes of a group's members. A large group is not read to add
// somebody to it.
type membership struct {
	all   bool            // exactly those who are wanted, instead of the others as they are
	want  map[string]bool // true: in it, false: not
	order []string        // the IDs of want as they came first
}

func (m *membership) reset() { *m = membership{all: true} }

func (m *membership) put(id string, in bool) {
	if m.want == nil {
		m.want = make(map[string]bool)
	}
	if _, known := m.want[id]; !known {
		m.order = append(m.order, id)
	}
	m.want[id] = in
}

// split returns who is to be in the group, and who is not to be.
func (m *membership) split() (in, out []string) {
	for _, id := range m.order {
		if m.want[id] {
			in = append(in, id)
		} else {
			out = append(out, id)
		}
	}
	return in, out
}

// replace sets c to what the body of a POST or PUT says.
func (c *change) replace(body resource) error {
	c.displayName, c.externalID = "", ""
	c.members.reset()
	for _, name := range []string{"displayName", "externalId", "members"} {
		value, ok := member(body, name)
		if !ok || value == nil {
			continue
		}
		if err := c.set("replace", target{path: attrPath{name: name}}, value); err != nil {
			return err
		}
	}
	if c.displayName == "" {
		return refuse(invalidValue, "displayName is required")
	}
	return nil
}

func (c *change) about() (id, schema string) { return c.id, groupSchema }

func (c *change) set(op string, t target, value any) (err error) {
	switch fold(t.path.name) {
	case "displayname":
		var text string
		if text, err = textOf("displayName", value, maxDisplay); err != nil {
			return err
		}
		if text == "" {
			return refuse(mutability, "displayName is required and cannot be removed")
		}
		c.displayName = text
	case "externalid":
		c.externalID, err = textOf("externalId", value, maxText)
	case "members":
		return c.setMembers(op, t, value)
	}
	return err
}

func (c *change) setMembers(op string, t target, value any) error {
	if t.path.sub != "" {
		return refuse(invalidPath, "a member is added or removed as a whole")
	}
	if t.values != nil {
		if op != "remove" {
			return refuse(invalidPath, "members are added by the path members")
		}
		return c.removeSelected(t.values)
	}
	ids, err := memberIDs(value)
	if err != nil {
		return err
	}
	switch {
	case op == "replace" || op == "remove" && value == nil:
		c.members.reset()
		fallthrough
	case op == "add":
		for _, id := range ids {
			c.members.put(id, true)
		}
	default: // remove with a list, as Entra ID sends it
		for _, id := range ids {
			c.members.put(id, false)
		}
	}
	return nil
}

// removeSelected removes the members that a filter selects. Somebody who is no member
// may be removed.
func (c *change) removeSelected(f *filter) error {
	if f.kind == filterCompare && f.op == "eq" && fold(f.path.name) == "value" && f.value.kind == literalString {
		c.members.put(f.value.text, false)
		return nil
	}
	var members []reference
	if !c.members.all {
		var err error
		if members, err = c.current(); err != nil {
			return err
		}
	}
	in, _ := c.members.split()
	for _, id := range in {
		if !slices.ContainsFunc(members, func(m reference) bool { return m.id == id }) {
			members = append(members, reference{id: id})
		}
	}
	for _, m := range members {
		if f.matchesValue(resource{"value": m.id, "display": m.display, "type": "User"}, "members") {
			c.members.put(m.id, false)
		}
	}
	return nil
}

// memberIDs reads members, each an object with a value or just the ID.
func memberIDs(v any) ([]string, error) {
	var out []string
	for _, value := range list(v) {
		if object, ok := value.(map[string]any); ok {
			if kind, _ := member(object, "type"); kind != nil && kind != "" {
				if text, ok := kind.(string); !ok || !strings.EqualFold(text, "User") {
					return nil, refuse(invalidValue, "members must be users, groups in groups are not supported")
				}
			}
			value, _ = member(object, "value")
		}
		id, ok := value.(string)
		if !ok || !plausible(id) {
			return nil, refuse(invalidValue, "members must be objects with the id of a user as value")
		}
		out = append(out, id)
	}
	return out, nil
}

// maxTeam is the length of the longest name of a team.
const maxTeam = 100

// teamName returns the name of a team that displays as text: what is no letter or
// digit of ASCII, "_" or "-" is left out, and "-" is where there was anything.
func teamName(text string) string {
	var out strings.Builder
	gap := false
	for i := range len(text) {
		c := text[i]
		if !letter(c) && (c < '0' || c > '9') && c != '_' && c != '-' {
			gap = true
			continue
		}
		if out.Len() == 0 && (c == '_' || c == '-') {
			continue
		}
		if gap && out.Len() > 0 {
			out.WriteByte('-')
		}
		gap = false
		out.WriteByte(c)
	}
	name := out.String()
	if len(name) > maxTeam {
		name = name[:maxTeam]
	}
	if name = strings.TrimRight(name, "-"); name == "" {
		return "group"
	}
	return name
}
