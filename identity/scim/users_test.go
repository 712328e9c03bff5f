package scim_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/identity/scim"
)

const alice = `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"Alice@example.com","externalId":"00u1",
	"name":{"givenName":"Alice","familyName":"Adams"},"displayName":"Alice Adams","active":true,
	"emails":[{"value":"alice@example.com","type":"work","primary":true},{"value":"a@home.example.com","type":"home"}]}`

func TestUserLife(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c := w.organization(t, "acme")
		made := c.do("POST", "/Users", alice).is(201)
		id := made.id()
		location := "https://ipuka.example.com/scim/v2/acme/Users/" + id
		if got := made.Header.Get("Location"); got != location {
			t.Errorf("Location is %q, want %q", got, location)
		}
		made.has(`{"userName":"Alice@example.com","externalId":"00u1","active":true,"displayName":"Alice Adams",
			"name":{"givenName":"Alice","familyName":"Adams","formatted":"absent"},
			"emails":[{"value":"alice@example.com","type":"work","primary":true},{"value":"a@home.example.com","primary":false}],
			"groups":"absent","meta":{"resourceType":"User","created":"2026-03-01T12:00:00.000000Z",
			"lastModified":"2026-03-01T12:00:00.000000Z","version":"W/\"1\"","location":"` + location + `"}}`)
		account, err := w.directory.User(t.Context(), id)
		ok(t, err)
		if account.Name != "Alice Adams" || account.Email != "alice@example.com" || account.ManagedBy != c.org.ID {
			t.Errorf("the account is %+v", account)
		}

		w.clock.advance(time.Minute)
		c.do("PUT", "/Users/"+id, `{"userName":"alice@example.com","active":"False","groups":[{"value":"x"}],"id":"other"}`).is(200).
			has(`{"userName":"alice@example.com","active":false,"displayName":"absent","externalId":"absent","emails":"absent","name":"absent",
				"meta":{"version":"W/\"2\"","created":"2026-03-01T12:00:00.000000Z","lastModified":"2026-03-01T12:01:00.000000Z"}}`)
		account, err = w.directory.User(t.Context(), id)
		ok(t, err)
		if account.Disabled.IsZero() || account.Email != "" {
			t.Errorf("the account is %+v", account)
		}
		c.do("PUT", "/Users/"+id, `{"userName":"alice@example.com"}`).is(200).has(`{"active":false,"meta":{"version":"W/\"2\""}}`)
		c.do("PATCH", "/Users/"+id, patch(`[{"op":"replace","value":{"active":true}}]`)).is(200).has(`{"active":true,"meta":{"version":"W/\"3\""}}`)

		c.do("DELETE", "/Users/"+id, "").is(204)
		for _, method := range []string{"GET", "DELETE"} {
			c.do(method, "/Users/"+id, "").refused(404, "")
		}
		c.do("PUT", "/Users/"+id, alice).refused(404, "")
		c.do("GET", "/Users", "").is(200).has(`{"totalResults":0,"Resources":[]}`)
		account, err = w.directory.User(t.Context(), id)
		ok(t, err)
		in, err := w.directory.Organizations(t.Context(), id)
		ok(t, err)
		if account.Disabled.IsZero() || account.DisabledBy != "scim:"+c.org.ID || len(in) != 0 {
			t.Errorf("after DELETE the account is %+v in %v", account, in)
		}

		again := c.do("POST", "/Users", strings.ReplaceAll(alice, "Alice@", "ALICE@")).is(201).has(`{"active":true,"userName":"ALICE@example.com","meta":{"version":"W/\"5\""}}`)
		if again.id() != id {
			t.Errorf("the account is another one")
		}
		account, err = w.directory.User(t.Context(), id)
		ok(t, err)
		in, err = w.directory.Organizations(t.Context(), id)
		ok(t, err)
		if !account.Disabled.IsZero() || len(in) != 1 || in[0].Role != identity.RoleMember {
			t.Errorf("after the second POST the account is %+v in %v", account, in)
		}
	})
}

func TestUserUniqueness(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c := w.organization(t, "acme")
		one, two := c.user("one@example.com"), c.user("two@example.com")
		c.do("POST", "/Users", `{"userName":"ONE@example.com"}`).refused(409, "uniqueness")
		c.do("PUT", "/Users/"+two, `{"userName":"One@Example.com"}`).refused(409, "uniqueness")
		c.do("PATCH", "/Users/"+two, patch(`[{"op":"replace","path":"userName","value":"one@example.com"}]`)).refused(409, "uniqueness")
		c.do("PATCH", "/Users/"+one, patch(`[{"op":"replace","path":"userName","value":"uno@example.com"}]`)).is(200)
		c.do("PUT", "/Users/"+two, `{"userName":"one@example.com"}`).is(200)
		c.do("GET", `/Users?filter=userName+eq+"ONE@EXAMPLE.COM"`, "").has(fmt.Sprintf(`{"totalResults":1,"Resources":[{"id":%q}]}`, two))
	})
}

// Concurrent requests for one name make one user.
func TestUserRace(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c := w.organization(t, "acme")
		status := make(chan int)
		for range 8 {
			go func() { status <- c.do("POST", "/Users", alice).Status }()
		}
		count := map[int]int{}
		for range 8 {
			count[<-status]++
		}
		if count[201] != 1 || count[409] != 7 {
			t.Errorf("the answers are %v", count)
		}
	})
}

// Concurrent changes of one user do not undo each other.
func TestPatchRace(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c := w.organization(t, "acme")
		id := c.user("race@example.com")
		done := make(chan int)
		for i := range 8 {
			go func() {
				done <- c.do("PATCH", "/Users/"+id, patch(fmt.Sprintf(`[{"op":"add","path":"emails","value":[{"value":"r%d@example.com"}]}]`, i))).Status
			}()
		}
		for range 8 {
			if status := <-done; status != 200 {
				t.Errorf("status is %d", status)
			}
		}
		c.do("GET", "/Users/"+id, "").has(`{"emails":[{},{},{},{},{},{},{},{}],"meta":{"version":"W/\"9\""}}`)
	})
}

// An account that came by SAML first becomes the resource; one of somebody else never.
func TestUserAdopted(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c := w.organization(t, "acme")
		id := c.user("early@example.com")
		ok(t, w.db.Conn(t.Context()).Exec("DELETE FROM scim_users").Error)
		if got := c.user("early@example.com"); got != id {
			t.Errorf("the account is %s, want %s", got, id)
		}
		ok(t, w.db.Conn(t.Context()).Exec("DELETE FROM scim_users").Error)
		ok(t, w.db.Conn(t.Context()).Exec("UPDATE users SET managed_by = '' WHERE id = ?", id).Error)
		c.do("POST", "/Users", `{"userName":"early@example.com"}`).refused(409, "uniqueness")
	})
}

// An account that was deleted here is no resource any more, and does not come back.
func TestUserGone(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c := w.organization(t, "acme")
		id := c.user("gone@example.com")
		ok(t, w.directory.DeleteUser(t.Context(), w.admin, id))
		c.do("GET", "/Users/"+id, "").refused(404, "")
		c.do("PATCH", "/Users/"+id, patch(`[{"op":"replace","value":{"active":true}}]`)).refused(404, "")
		c.do("GET", "/Users", "").has(`{"totalResults":0}`)
		if got := c.user("gone@example.com"); got == id {
			t.Errorf("the account that was deleted is back")
		}
		id = c.user("left@example.com")
		c.do("DELETE", "/Users/"+id, "").is(204)
		ok(t, w.directory.DeleteUser(t.Context(), w.admin, id))
		if got := c.user("left@example.com"); got == id {
			t.Errorf("the account that was deleted is back")
		}
	})
}

// An account that an administrator has disabled stays so, whatever the provider says.
func TestUserDisabledHere(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c := w.organization(t, "acme")
		id := c.user("locked@example.com")
		ok(t, w.directory.Disable(t.Context(), w.admin, id))
		c.do("PATCH", "/Users/"+id, patch(`[{"op":"replace","value":{"active":false}}]`)).is(200)
		c.do("PATCH", "/Users/"+id, patch(`[{"op":"replace","value":{"active":true}}]`)).is(200).has(`{"active":true}`)
		c.do("DELETE", "/Users/"+id, "").is(204)
		c.user("locked@example.com")
		if account, err := w.directory.User(t.Context(), id); err != nil || account.Disabled.IsZero() || account.DisabledBy != "admin" {
			t.Errorf("the account is %+v, %v", account, err)
		}
	})
}

func TestLastAdministrator(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c := w.organization(t, "acme")
		id := c.user("chief@example.com")
		account, err := w.directory.User(t.Context(), id)
		ok(t, err)
		ok(t, w.directory.SetRole(t.Context(), w.admin, c.org.ID, account.Login, identity.RoleAdmin))
		ok(t, w.directory.RemoveMember(t.Context(), w.admin, c.org.ID, "boss"))
		team := c.group("Chiefs", id)
		c.do("DELETE", "/Users/"+id, "").is(204)
		account, err = w.directory.User(t.Context(), id)
		ok(t, err)
		if account.Disabled.IsZero() {
			t.Error("the last administrator is not disabled")
		}
		if got := c.members(team); len(got) != 0 {
			t.Errorf("members are %v", got)
		}
	})
}

func TestUserPatch(t *testing.T) {
	tests := map[string]struct {
		ops    string
		want   string // what the answer contains
		refuse string // or the scimType
	}{
		"okta deactivates":               {ops: `[{"op":"replace","value":{"active":false}}]`, want: `{"active":false}`},
		"entra deactivates":              {ops: `[{"op":"Replace","path":"active","value":"False"}]`, want: `{"active":false}`},
		"entra deactivates, older":       {ops: `[{"op":"Replace","path":"active","value":[{"$ref":null,"value":"False"}]}]`, want: `{"active":false}`},
		"active by urn":                  {ops: `[{"op":"replace","path":"urn:ietf:params:scim:schemas:core:2.0:User:active","value":false}]`, want: `{"active":false}`},
		"sub-attribute by urn":           {ops: `[{"op":"replace","path":"urn:ietf:params:scim:schemas:core:2.0:User:name.givenName","value":"Alicia"}]`, want: `{"name":{"givenName":"Alicia","familyName":"Adams"}}`},
		"schema as an attribute":         {ops: `[{"op":"replace","value":{"urn:ietf:params:scim:schemas:core:2.0:User":{"displayName":"X"}}}]`, want: `{"displayName":"X"}`},
		"sub-attribute":                  {ops: `[{"op":"Add","path":"name.givenName","value":"Alicia"}]`, want: `{"name":{"givenName":"Alicia","familyName":"Adams"}}`},
		"part of name":                   {ops: `[{"op":"replace","path":"name","value":{"formatted":"A. Adams","honorificPrefix":"Dr"}}]`, want: `{"name":{"givenName":"Alice","formatted":"A. Adams","honorificPrefix":"absent"}}`},
		"name removed":                   {ops: `[{"op":"remove","path":"name"}]`, want: `{"name":"absent"}`},
		"flattened paths":                {ops: `[{"op":"Add","value":{"name.familyName":"Ames","emails[type eq \"work\"].value":"ames@example.com","urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department":"R"}}]`, want: `{"name":{"familyName":"Ames"},"emails":[{"value":"ames@example.com","type":"work","primary":true},{"type":"home"}]}`},
		"address of a type":              {ops: `[{"op":"Replace","path":"emails[type eq \"WORK\"].value","value":"new@example.com"}]`, want: `{"emails":[{"value":"new@example.com","type":"work"},{"value":"a@home.example.com"}]}`},
		"address of a type that is new":  {ops: `[{"op":"Add","path":"emails[type eq \"other\"].value","value":"o@example.com"}]`, want: `{"emails":[{},{},{"value":"o@example.com","type":"other","primary":false}]}`},
		"address that is not there":      {ops: `[{"op":"replace","path":"emails[type eq \"other\"].value","value":"o@example.com"}]`, refuse: "noTarget"},
		"addresses replaced":             {ops: `[{"op":"replace","path":"emails","value":[{"value":"only@example.com","type":"work"}]}]`, want: `{"emails":[{"value":"only@example.com"}]}`},
		"address added":                  {ops: `[{"op":"add","path":"emails","value":[{"value":"third@example.com","primary":true}]}]`, want: `{"emails":[{"primary":false},{},{"value":"third@example.com","primary":true}]}`},
		"address added twice":            {ops: `[{"op":"add","path":"emails","value":[{"value":"ALICE@example.com","type":"work"}]}]`, want: `{"emails":[{"value":"a@home.example.com"},{"value":"ALICE@example.com"}]}`},
		"address made primary":           {ops: `[{"op":"replace","path":"emails[type eq \"home\"].primary","value":"True"}]`, want: `{"emails":[{"primary":false},{"primary":true}]}`},
		"address removed":                {ops: `[{"op":"remove","path":"emails[type eq \"home\"]"}]`, want: `{"emails":[{"value":"alice@example.com"}]}`},
		"address's value removed":        {ops: `[{"op":"remove","path":"emails[value ew \"home.example.com\" and primary eq false].value"}]`, want: `{"emails":[{"value":"alice@example.com"}]}`},
		"addresses removed":              {ops: `[{"op":"remove","path":"emails"}]`, want: `{"emails":"absent"}`},
		"null":                           {ops: `[{"op":"replace","value":{"displayName":null,"externalId":null}}]`, want: `{"displayName":"absent","externalId":"absent"}`},
		"removed":                        {ops: `[{"op":"remove","path":"displayName"},{"op":"REMOVE","path":"externalId"}]`, want: `{"displayName":"absent","externalId":"absent"}`},
		"userName":                       {ops: `[{"op":"replace","path":"userName","value":"alicia@example.com"}]`, want: `{"userName":"alicia@example.com"}`},
		"several":                        {ops: `[{"op":"Add","path":"displayName","value":"A"},{"op":"Replace","path":"displayName","value":"B"}]`, want: `{"displayName":"B"}`},
		"not kept":                       {ops: `[{"op":"replace","path":"title","value":"Dr"},{"op":"add","path":"phoneNumbers[type eq \"work\"].value","value":"1"},{"op":"add","path":"addresses[type eq \"work\"].formatted","value":"x"}]`, want: `{"title":"absent","phoneNumbers":"absent","meta":{"version":"W/\"1\""}}`},
		"extension":                      {ops: `[{"op":"Add","path":"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager","value":"x"},{"op":"add","value":{"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"department":"R"},"unheardOf":1}}]`, want: `{"meta":{"version":"W/\"1\""}}`},
		"own id":                         {ops: `[{"op":"replace","value":{"id":"ID","displayName":"Z"}}]`, want: `{"displayName":"Z"}`},
		"names in any case":              {ops: `[{"OP":"replace","Path":"DISPLAYNAME","Value":"Y"}]`, want: `{"displayName":"Y"}`},
		"another id":                     {ops: `[{"op":"replace","value":{"id":"1","displayName":"Z"}}]`, refuse: "mutability"},
		"id by path":                     {ops: `[{"op":"replace","path":"id","value":"1"}]`, refuse: "mutability"},
		"groups":                         {ops: `[{"op":"add","path":"groups","value":[{"value":"x"}]}]`, refuse: "mutability"},
		"userName removed":               {ops: `[{"op":"remove","path":"userName"}]`, refuse: "mutability"},
		"userName empty":                 {ops: `[{"op":"replace","path":"userName","value":" "}]`, refuse: "mutability"},
		"unknown path":                   {ops: `[{"op":"replace","path":"favouriteColour","value":"x"}]`, refuse: "invalidPath"},
		"unknown sub-attribute":          {ops: `[{"op":"replace","path":"name.nick","value":"x"}]`, refuse: "invalidPath"},
		"sub-attribute of a simple one":  {ops: `[{"op":"replace","path":"userName.x","value":"x"}]`, refuse: "invalidPath"},
		"selection of a simple one":      {ops: `[{"op":"replace","path":"userName[x eq 1]","value":"x"}]`, refuse: "invalidPath"},
		"broken path":                    {ops: `[{"op":"replace","path":"emails[type eq","value":"x"}]`, refuse: "invalidPath"},
		"path with more behind":          {ops: `[{"op":"replace","path":"active true","value":"x"}]`, refuse: "invalidPath"},
		"path of another type":           {ops: `[{"op":"replace","path":1,"value":"x"}]`, refuse: "invalidPath"},
		"wrong type":                     {ops: `[{"op":"replace","path":"active","value":"maybe"}]`, refuse: "invalidValue"},
		"wrong type of text":             {ops: `[{"op":"replace","path":"displayName","value":7}]`, refuse: "invalidValue"},
		"control characters":             {ops: `[{"op":"replace","path":"displayName","value":"a\u0000b"}]`, refuse: "invalidValue"},
		"not an address":                 {ops: `[{"op":"replace","path":"emails","value":[{"value":"not an address"}]}]`, refuse: "invalidValue"},
		"two primary addresses":          {ops: `[{"op":"replace","path":"emails","value":[{"value":"a@b.example","primary":true},{"value":"c@b.example","primary":true}]}]`, refuse: "invalidValue"},
		"no path and no object":          {ops: `[{"op":"replace","value":"x"}]`, refuse: "invalidValue"},
		"remove without a path":          {ops: `[{"op":"remove","value":{"displayName":"x"}}]`, refuse: "noTarget"},
		"unknown op":                     {ops: `[{"op":"move","path":"displayName","value":"x"}]`, refuse: "invalidSyntax"},
		"no ops":                         {ops: `[]`, refuse: "invalidSyntax"},
		"ops of another type":            {ops: `{"op":"replace"}`, refuse: "invalidSyntax"},
		"too many ops":                   {ops: `[` + strings.Repeat(`{"op":"remove","path":"displayName"},`, 1000) + `{"op":"remove","path":"displayName"}]`, refuse: "tooMany"},
		"the last of several is refused": {ops: `[{"op":"replace","path":"active","value":false},{"op":"replace","path":"userName","value":"x"},{"op":"replace","path":"nope","value":1}]`, refuse: "invalidPath"},
	}
	each(t, func(t *testing.T, w *world) {
		c := w.organization(t, "acme")
		n := 0
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				n++
				c := &client{t, c.w, c.org, c.token}
				body := strings.NewReplacer("Alice@", fmt.Sprintf("alice%d@", n), "00u1", fmt.Sprintf("00u%d", n)).Replace(alice)
				id := c.do("POST", "/Users", body).is(201).id()
				before := c.do("GET", "/Users/"+id, "").is(200)
				w.audit.take()
				ops := strings.ReplaceAll(strings.ReplaceAll(test.ops, `"ID"`, `"`+id+`"`), "alicia@", fmt.Sprintf("alicia%d@", n))
				a := c.do("PATCH", "/Users/"+id, patch(ops))
				if test.refuse == "" {
					a.is(200).has(strings.ReplaceAll(test.want, "alicia@", fmt.Sprintf("alicia%d@", n)))
					if after := c.do("GET", "/Users/"+id, "").is(200); after.Text != a.Text {
						t.Errorf("PATCH answers\n%s\nand GET\n%s", a.Text, after.Text)
					}
					return
				}
				a.refused(400, test.refuse)
				if after := c.do("GET", "/Users/"+id, "").is(200); after.Text != before.Text {
					t.Errorf("a PATCH that was refused left\n%s\nof\n%s", after.Text, before.Text)
				}
				if account, err := w.directory.User(t.Context(), id); err != nil || !account.Disabled.IsZero() {
					t.Errorf("a PATCH that was refused left %+v, %v", account, err)
				}
				if events := w.audit.take(); len(events) != 0 {
					t.Errorf("a PATCH that was refused is on record as %+v", events)
				}
			})
		}
	})
}

func TestUserBodies(t *testing.T) {
	tests := map[string]struct {
		body    string
		headers []string
		status  int
		refuse  string
	}{
		"plain JSON":              {body: `{"userName":"a@x.example"}`, headers: []string{"Content-Type", "application/json; charset=utf-8"}, status: 201},
		"no type":                 {body: `{"userName":"b@x.example"}`, headers: []string{"Content-Type", ""}, status: 201},
		"names in any case":       {body: `{"USERNAME":"c@x.example","Name":{"GIVENNAME":"C"}}`, status: 201},
		"extension and unknown":   {body: `{"schemas":["urn:x"],"userName":"d@x.example","password":"secret","nickName":"d","urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"department":"R"}}`, status: 201},
		"empty address":           {body: `{"userName":"e@x.example","emails":[{"type":"work","value":""}]}`, status: 201},
		"addresses as text":       {body: `{"userName":"f@x.example","emails":["f@x.example"]}`, status: 201},
		"another media type":      {body: `{"userName":"z"}`, headers: []string{"Content-Type", "text/plain"}, status: 415},
		"no userName":             {body: `{"displayName":"x"}`, status: 400, refuse: "invalidValue"},
		"userName of other type":  {body: `{"userName":7}`, status: 400, refuse: "invalidValue"},
		"userName too long":       {body: `{"userName":"` + strings.Repeat("x", 256) + `"}`, status: 400, refuse: "invalidValue"},
		"name of other type":      {body: `{"userName":"z","name":"x"}`, status: 400, refuse: "invalidValue"},
		"too many addresses":      {body: `{"userName":"z","emails":[` + many(21) + `]}`, status: 400, refuse: "invalidValue"},
		"not JSON":                {body: `{`, status: 400, refuse: "invalidSyntax"},
		"list":                    {body: `[]`, status: 400, refuse: "invalidSyntax"},
		"nothing":                 {body: ``, status: 400, refuse: "invalidSyntax"},
		"more behind":             {body: `{"userName":"z"}{}`, status: 400, refuse: "invalidSyntax"},
		"twice":                   {body: `{"userName":"z","userName":"y"}`, status: 400, refuse: "invalidSyntax"},
		"twice but for case":      {body: `{"userName":"z","username":"y"}`, status: 400, refuse: "invalidSyntax"},
		"twice within":            {body: `{"userName":"z","emails":[{"value":"a@x.example","VALUE":"b@x.example"}]}`, status: 400, refuse: "invalidSyntax"},
		"invalid UTF-8":           {body: "{\"userName\":\"\xff\"}", status: 400, refuse: "invalidSyntax"},
		"deep":                    {body: `{"userName":"z","x":` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + `}`, status: 400, refuse: "invalidSyntax"},
		"deep without an end":     {body: strings.Repeat(`[`, 100_000), status: 400, refuse: "invalidSyntax"},
		"brackets in text":        {body: `{"userName":"g@x.example","x":"` + strings.Repeat(`[{\"`, 30) + `"}`, status: 201},
		"large":                   {body: `{"userName":"z","x":"` + strings.Repeat("x", 1<<20) + `"}`, status: 413},
		"compressed that is none": {body: `{"userName":"z"}`, headers: []string{"Content-Encoding", "gzip"}, status: 400},
	}
	each(t, func(t *testing.T, w *world) {
		c := w.organization(t, "acme")
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				a := (&client{t, c.w, c.org, c.token}).do("POST", "/Users", test.body, test.headers...)
				if test.status == 201 {
					a.is(201)
					if strings.Contains(a.Text, "secret") {
						t.Errorf("a password is kept: %s", a.Text)
					}
				} else if a.is(test.status); test.refuse != "" {
					a.refused(test.status, test.refuse)
				}
			})
		}
		total := c.do("GET", "/Users?count=0", "").Body["totalResults"]
		made := 0.0
		for _, test := range tests {
			if test.status == 201 {
				made++
			}
		}
		if total != made {
			t.Errorf("there are %v users, want %v", total, made)
		}
	})
}

func many(n int) string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf(`{"value":"a%d@x.example"}`, i)
	}
	return strings.Join(out, ",")
}

func TestETag(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c := w.organization(t, "acme")
		id := c.user("etag@example.com")
		first := c.do("GET", "/Users/"+id, "").is(200).Header.Get("ETag")
		c.do("GET", "/Users/"+id, "", "If-None-Match", first).is(304)
		c.do("GET", "/Users/"+id, "", "If-None-Match", `W/"7", `+first).is(304)
		c.do("GET", "/Users/"+id, "", "If-None-Match", `W/"7"`).is(200)
		second := c.do("PUT", "/Users/"+id, `{"userName":"etag@example.com","displayName":"E"}`, "If-Match", first).is(200).Header.Get("ETag")
		if first == second {
			t.Error("the ETag has not changed")
		}
		c.do("PUT", "/Users/"+id, `{"userName":"x"}`, "If-Match", first).refused(412, "")
		c.do("PATCH", "/Users/"+id, patch(`[{"op":"replace","value":{"active":false}}]`), "If-Match", first).refused(412, "")
		c.do("DELETE", "/Users/"+id, "", "If-Match", first).refused(412, "")
		c.do("GET", "/Users/"+id, "", "If-None-Match", first).is(200).has(`{"displayName":"E","active":true}`)
		c.do("PATCH", "/Users/"+id, patch(`[{"op":"replace","value":{"displayName":"F"}}]`), "If-Match", "*").is(200)

		group := c.group("Etag", id)
		tag := c.do("GET", "/Groups/"+group, "").Header.Get("ETag")
		if got := c.do("PATCH", "/Groups/"+group, patch(`[{"op":"remove","path":"members"}]`), "If-Match", tag).is(204).Header.Get("ETag"); got == tag {
			t.Error("the ETag of the group has not changed")
		}
		c.do("PUT", "/Groups/"+group, groupBody("X", nil), "If-Match", tag).refused(412, "")
		c.do("DELETE", "/Groups/"+group, "", "If-Match", tag).refused(412, "")
		c.do("GET", "/Groups/"+group, "", "If-None-Match", tag).is(200).has(`{"displayName":"Etag"}`)
	})
}

func TestDiscovery(t *testing.T) {
	w := newWorld(t, sqlite(t))
	c := w.organization(t, "acme")
	c.do("GET", "/ServiceProviderConfig", "").is(200).has(`{"patch":{"supported":true},"bulk":{"supported":false},"filter":{"supported":true,"maxResults":200},"etag":{"supported":true}}`)
	c.do("GET", "/ResourceTypes", "").is(200).has(`{"totalResults":2,"Resources":[{"id":"User"},{"id":"Group"}]}`)
	c.do("GET", "/ResourceTypes/Group", "").is(200).has(`{"endpoint":"/Groups"}`)
	c.do("GET", "/Schemas", "").is(200).has(`{"totalResults":2}`)
	c.do("GET", "/Schemas/"+scim.UserSchema, "").is(200).has(`{"name":"User"}`)
	c.do("GET", "/Schemas/urn:x", "").refused(404, "")
	c.do("GET", "/ServiceProviderConfig/x", "").refused(404, "")
	c.do("GET", `/Schemas?filter=id+pr`, "").refused(403, "")
	c.do("POST", "/Schemas", "{}").refused(405, "")
	c.do("POST", "/Bulk", "{}").refused(501, "")
	c.do("GET", "/Me", "").refused(501, "")
	c.do("GET", "/Devices", "").refused(404, "")
	c.do("GET", "", "").refused(404, "")
	c.do("GET", "/Users/a/b", "").refused(404, "")
	c.do("DELETE", "/Users", "").refused(405, "")
	c.do("GET", "/Users/.search", "").refused(405, "")
	c.do("GET", "/Users/%00", "").refused(404, "")
	c.do("GET", "/Users/%ff", "").refused(404, "")
}
