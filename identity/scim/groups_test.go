package scim_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/scim"
)

func TestGroupLife(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c := w.organization(t, "acme")
		a, b := c.user("a@example.com"), c.user("b@example.com")
		made := c.do("POST", "/Groups", groupBody("Platform & Tools (EU)", []string{a, b, a})).is(201)
		id := made.id()
		made.has(fmt.Sprintf(`{"displayName":"Platform & Tools (EU)","meta":{"resourceType":"Group","location":"https://ipuka.example.com/scim/v2/acme/Groups/%s"}}`, id))
		team, err := w.directory.Team(t.Context(), c.org.ID, "Platform-Tools-EU")
		ok(t, err)
		if team.ID != id || team.Kind != "scim" || team.DisplayName != "Platform & Tools (EU)" || team.Members != 2 {
			t.Errorf("the team is %+v", team)
		}
		c.do("GET", "/Users/"+a, "").is(200).has(fmt.Sprintf(`{"groups":[{"value":%q,"display":"Platform & Tools (EU)","type":"direct"}]}`, id))

		c.do("PUT", "/Groups/"+id, groupBody("Renamed", []string{b})).is(200).has(fmt.Sprintf(`{"displayName":"Renamed","members":[{"value":%q,"display":"b@example.com","type":"User","$ref":"https://ipuka.example.com/scim/v2/acme/Users/%s"}]}`, b, b))
		team, err = w.directory.Team(t.Context(), c.org.ID, "Platform-Tools-EU") // the name stays: permissions hang on it
		ok(t, err)
		if team.DisplayName != "Renamed" || team.Members != 1 {
			t.Errorf("the team is %+v", team)
		}
		c.do("PUT", "/Groups/"+id, `{"displayName":"Renamed"}`).is(200).has(`{"members":[]}`)
		c.do("DELETE", "/Groups/"+id, "").is(204)
		c.do("GET", "/Groups/"+id, "").refused(404, "")
		c.do("DELETE", "/Groups/"+id, "").refused(404, "")
		if _, err := w.directory.Team(t.Context(), c.org.ID, "Platform-Tools-EU"); err == nil {
			t.Error("the team is still there")
		}
		if again := c.group("Platform & Tools (EU)", a); again == id {
			t.Error("the group is the old one")
		}
	})
}

func TestGroupNames(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c := w.organization(t, "acme")
		_, err := w.directory.CreateTeam(t.Context(), w.admin, c.org.ID, identity.NewTeam{Name: "Ops", DisplayName: "Ours"})
		ok(t, err)
		c.group("Ops")
		c.do("POST", "/Groups", groupBody("OPS", nil)).refused(409, "uniqueness")
		c.group("Ops!")
		c.group("運用")
		c.group(strings.Repeat("x", 100))
		other := c.group(strings.Repeat("x", 98) + "!!")
		c.do("PATCH", "/Groups/"+other, patch(`[{"op":"replace","path":"displayName","value":"ops"}]`)).refused(409, "uniqueness")
		for _, name := range []string{"ops-2", "ops-3", "group", strings.Repeat("x", 100), strings.Repeat("x", 98)} {
			if team, err := w.directory.Team(t.Context(), c.org.ID, name); err != nil || team.Kind != "scim" {
				t.Errorf("team %s is %+v, %v", name, team, err)
			}
		}
		c.do("POST", "/Groups", groupBody(strings.Repeat("x", 101), nil)).refused(400, "invalidValue")
		c.do("POST", "/Groups", groupBody("", nil)).refused(400, "mutability")
		c.do("POST", "/Groups", `{"members":[]}`).refused(400, "invalidValue")
		if got := scim.TeamName("  -_ Ünïcode: a  b/c- "); got != "n-code-a-b-c" {
			t.Errorf("the name is %q", got)
		}
	})
}

// Members must be users that were provisioned for this organization.
func TestGroupMembers(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c, other := w.organization(t, "acme"), w.organization(t, "other")
		mine, theirs, gone := c.user("mine@example.com"), other.user("theirs@example.com"), c.user("gone@example.com")
		group := c.group("Group", mine, gone)
		c.do("DELETE", "/Users/"+gone, "").is(204)
		w.audit.take()
		for name, id := range map[string]string{"of another organization": theirs, "not provisioned": w.admin.UserID, "deleted": gone, "unknown": "1", "group": group} {
			t.Run(name, func(t *testing.T) {
				c := &client{t, c.w, c.org, c.token}
				for _, a := range []*answer{
					c.do("POST", "/Groups", groupBody("New", []string{mine, id})),
					c.do("PUT", "/Groups/"+group, groupBody("New", []string{mine, id})),
					c.do("PATCH", "/Groups/"+group, patch(fmt.Sprintf(`[{"op":"replace","path":"displayName","value":"New"},{"op":"add","path":"members","value":[{"value":%q},{"value":%q}]}]`, mine, id))),
				} {
					if a.refused(400, "invalidValue"); !strings.Contains(a.Body["detail"].(string), id) {
						t.Errorf("the first wrong member is not named: %s", a.Text)
					}
				}
				c.do("GET", "/Groups", "").has(fmt.Sprintf(`{"totalResults":1,"Resources":[{"displayName":"Group","members":[{"value":%q}]}]}`, mine))
				if events := w.audit.take(); len(events) != 0 {
					t.Errorf("on record is %+v", events)
				}
			})
		}
		c.do("POST", "/Groups", `{"displayName":"N","members":[{"value":"`+mine+`","type":"Group"}]}`).refused(400, "invalidValue")
		c.do("POST", "/Groups", `{"displayName":"N","members":[{"display":"x"}]}`).refused(400, "invalidValue")
		c.do("POST", "/Groups", `{"displayName":"N","members":["a\u0000"]}`).refused(400, "invalidValue")
	})
}

func TestGroupPatch(t *testing.T) {
	tests := map[string]struct {
		ops    string
		want   string // the members afterwards
		name   string
		refuse string
	}{
		"okta adds":                    {ops: `[{"op":"add","path":"members","value":[{"value":"C","display":"c@example.com"}]}]`, want: "ABC"},
		"okta removes":                 {ops: `[{"op":"remove","path":"members[value eq \"A\"]"}]`, want: "B"},
		"okta replaces":                {ops: `[{"op":"replace","path":"members","value":[{"value":"C"},{"value":"D"}]}]`, want: "CD"},
		"okta renames":                 {ops: `[{"op":"replace","value":{"id":"G","displayName":"New"}}]`, want: "AB", name: "New"},
		"entra adds":                   {ops: `[{"op":"Add","path":"members","value":[{"$ref":null,"value":"C"}]}]`, want: "ABC"},
		"entra removes":                {ops: `[{"op":"Remove","path":"members","value":[{"$ref":null,"value":"A"},{"value":"B"}]}]`, want: ""},
		"entra renames":                {ops: `[{"op":"Replace","path":"displayName","value":"New"}]`, want: "AB", name: "New"},
		"entra sets externalId":        {ops: `[{"op":"Add","path":"externalId","value":"e1"}]`, want: "AB"},
		"by urn":                       {ops: `[{"op":"add","path":"urn:ietf:params:scim:schemas:core:2.0:Group:members","value":[{"value":"C"}]}]`, want: "ABC"},
		"without a path":               {ops: `[{"op":"add","value":{"members":[{"value":"C"}],"schemas":[],"meta":{},"unknown":1}}]`, want: "ABC"},
		"one object":                   {ops: `[{"op":"add","path":"members","value":{"value":"C"}}]`, want: "ABC"},
		"just the id":                  {ops: `[{"op":"add","path":"members","value":"C"}]`, want: "ABC"},
		"there already":                {ops: `[{"op":"add","path":"members","value":[{"value":"A"},{"value":"A"}]}]`, want: "AB"},
		"not there":                    {ops: `[{"op":"remove","path":"members[value eq \"C\"]"},{"op":"remove","path":"members[value eq \"nobody\"]"}]`, want: "AB"},
		"add and remove":               {ops: `[{"op":"add","path":"members","value":[{"value":"C"}]},{"op":"remove","path":"members[value eq \"C\"]"}]`, want: "AB"},
		"remove and add":               {ops: `[{"op":"remove","path":"members[value eq \"A\"]"},{"op":"add","path":"members","value":[{"value":"A"}]}]`, want: "AB"},
		"replace and add and remove":   {ops: `[{"op":"replace","path":"members","value":[{"value":"C"}]},{"op":"add","path":"members","value":[{"value":"D"}]},{"op":"remove","path":"members[value eq \"C\"]"}]`, want: "D"},
		"all removed":                  {ops: `[{"op":"remove","path":"members"}]`, want: ""},
		"all removed, one added":       {ops: `[{"op":"remove","path":"members"},{"op":"add","path":"members","value":[{"value":"D"}]}]`, want: "D"},
		"selected by two values":       {ops: `[{"op":"remove","path":"members[value eq \"A\" or value eq \"B\"]"}]`, want: ""},
		"selected by name":             {ops: `[{"op":"add","path":"members","value":[{"value":"C"}]},{"op":"remove","path":"members[display sw \"A@\"]"}]`, want: "BC"},
		"selected after replacing":     {ops: `[{"op":"replace","path":"members","value":[{"value":"C"},{"value":"D"}]},{"op":"remove","path":"members[not (value eq \"C\")]"}]`, want: "C"},
		"nested":                       {ops: `[{"op":"add","path":"members","value":[{"value":"G","type":"Group"}]}]`, refuse: "invalidValue"},
		"name removed":                 {ops: `[{"op":"remove","path":"displayName"}]`, refuse: "mutability"},
		"name too long":                {ops: `[{"op":"replace","path":"displayName","value":"` + strings.Repeat("x", 101) + `"}]`, refuse: "invalidValue"},
		"another id":                   {ops: `[{"op":"replace","value":{"id":"X"}}]`, refuse: "mutability"},
		"unknown path":                 {ops: `[{"op":"replace","path":"userName","value":"x"}]`, refuse: "invalidPath"},
		"sub-attribute":                {ops: `[{"op":"replace","path":"members.value","value":"A"}]`, refuse: "invalidPath"},
		"add to a selection":           {ops: `[{"op":"add","path":"members[value eq \"A\"]","value":"B"}]`, refuse: "invalidPath"},
		"members of another type":      {ops: `[{"op":"add","path":"members","value":[7]}]`, refuse: "invalidValue"},
		"a wrong one after a good one": {ops: `[{"op":"replace","path":"displayName","value":"New"},{"op":"remove","path":"members[value eq \"A\"]"},{"op":"add","path":"members","value":[{"value":"C"},{"value":"nobody"}]}]`, refuse: "invalidValue"},
	}
	each(t, func(t *testing.T, w *world) {
		c := w.organization(t, "acme")
		ids := map[string]string{}
		for _, letter := range []string{"A", "B", "C", "D"} {
			ids[letter] = c.user(strings.ToLower(letter) + "@example.com")
		}
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				c := &client{t, c.w, c.org, c.token}
				group := c.group("Before", ids["A"], ids["B"])
				defer c.do("DELETE", "/Groups/"+group, "")
				ops := strings.ReplaceAll(test.ops, `"G"`, `"`+group+`"`)
				for letter, id := range ids {
					ops = strings.NewReplacer(`"`+letter+`"`, `"`+id+`"`, `\"`+letter+`\"`, `\"`+id+`\"`).Replace(ops)
				}
				a, want, display := c.do("PATCH", "/Groups/"+group, patch(ops)), test.want, test.name
				if test.refuse != "" {
					a.refused(400, test.refuse)
					want = "AB"
				} else {
					a.is(204)
				}
				if display == "" {
					display = "Before"
				}
				c.do("GET", "/Groups/"+group, "").has(fmt.Sprintf(`{"displayName":%q}`, display))
				got := ""
				for _, letter := range []string{"A", "B", "C", "D"} {
					if c.members(group)[ids[letter]] {
						got += letter
					}
				}
				if got != want || len(c.members(group)) != len(want) {
					t.Errorf("members are %q (%v), want %q", got, c.members(group), want)
				}
			})
		}
	})
}

// Teams of another kind are not there, whatever is tried.
func TestOtherTeams(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c, other := w.organization(t, "acme"), w.organization(t, "other")
		ours, err := w.directory.CreateTeam(t.Context(), w.admin, c.org.ID, identity.NewTeam{Name: "ours"})
		ok(t, err)
		theirs := other.group("Theirs")
		for _, id := range []string{ours.ID, theirs, "ours", "1"} {
			c.do("GET", "/Groups/"+id, "").refused(404, "")
			c.do("PUT", "/Groups/"+id, groupBody("X", nil)).refused(404, "")
			c.do("PATCH", "/Groups/"+id, patch(`[{"op":"replace","path":"displayName","value":"X"}]`)).refused(404, "")
			c.do("DELETE", "/Groups/"+id, "").refused(404, "")
		}
		c.do("GET", "/Groups", "").is(200).has(`{"totalResults":0}`)
		if _, err := w.directory.Team(t.Context(), c.org.ID, "ours"); err != nil {
			t.Error(err)
		}
		other.do("GET", "/Groups/"+theirs, "").is(200).has(`{"displayName":"Theirs"}`)

		// One that has become somebody else's is not there any more either.
		mine := c.group("Mine")
		ok(t, w.db.Conn(t.Context()).Exec("UPDATE teams SET kind = 'pulumi' WHERE id = ?", mine).Error)
		c.do("DELETE", "/Groups/"+mine, "").refused(404, "")
		c.do("GET", "/Groups", "").is(200).has(`{"totalResults":0}`)
	})
}
