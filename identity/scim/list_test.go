package scim_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/ipuka/ipuka/identity/scim"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/database/databasetest"
)

func sqlite(t testing.TB) *database.DB { return databasetest.SQLite(t, migrations...) }

func TestList(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c := w.organization(t, "acme")
		var ids []string
		for _, name := range []string{"delta", "Bravo", "alpha", "echo", "Charlie"} {
			ids = append(ids, c.do("POST", "/Users", fmt.Sprintf(`{"userName":%q,"displayName":"The %s","name":{"givenName":"G","familyName":"F"}}`, name+"@example.com", name)).is(201).id())
			w.clock.advance(1000)
		}
		group := c.group("G", ids[0])
		tests := map[string]struct{ query, want string }{
			"all":                  {"", `{"totalResults":5,"startIndex":1,"itemsPerPage":5,"schemas":["urn:ietf:params:scim:api:messages:2.0:ListResponse"]}`},
			"totals":               {"count=0", `{"totalResults":5,"itemsPerPage":0,"Resources":[]}`},
			"negative":             {"count=-3&startIndex=-7", `{"totalResults":5,"startIndex":1,"itemsPerPage":0}`},
			"second page":          {"startIndex=3&count=2", `{"totalResults":5,"startIndex":3,"itemsPerPage":2,"Resources":[{"displayName":"The alpha"},{"displayName":"The echo"}]}`},
			"beyond":               {"startIndex=6", `{"totalResults":5,"startIndex":6,"itemsPerPage":0}`},
			"by name":              {"sortBy=userName&count=2", `{"Resources":[{"displayName":"The alpha"},{"displayName":"The Bravo"}]}`},
			"by name, descending":  {"sortBy=USERNAME&sortOrder=descending&count=2", `{"Resources":[{"displayName":"The echo"},{"displayName":"The delta"}]}`},
			"by something else":    {"sortBy=displayName&count=1", `{"Resources":[{"displayName":"The delta"}]}`},
			"attributes":           {"attributes=userName,name.givenName&count=1", `{"Resources":[{"id":"` + ids[0] + `","userName":"delta@example.com","name":{"givenName":"G","familyName":"absent"},"displayName":"absent","meta":"absent","groups":"absent"}]}`},
			"attributes by urn":    {"attributes=" + url.QueryEscape(scim.UserSchema+":userName") + "&count=1", `{"Resources":[{"userName":"delta@example.com","displayName":"absent"}]}`},
			"excluded":             {"excludedAttributes=name.givenName,groups,id&count=1", `{"Resources":[{"id":"` + ids[0] + `","name":{"givenName":"absent","familyName":"F"},"groups":"absent"}]}`},
			"groups":               {"count=1", `{"Resources":[{"groups":[{"value":"` + group + `","display":"G"}]}]}`},
			"filter":               {"filter=" + url.QueryEscape(`userName eq "ALPHA@example.com"`), `{"totalResults":1,"Resources":[{"displayName":"The alpha"}]}`},
			"filter with a page":   {"filter=" + url.QueryEscape(`displayName sw "the "`) + "&startIndex=2&count=1", `{"totalResults":5,"startIndex":2,"itemsPerPage":1,"Resources":[{"displayName":"The Bravo"}]}`},
			"filter and count 0":   {"filter=" + url.QueryEscape(`displayName co "a"`) + "&count=0", `{"totalResults":4,"Resources":[]}`},
			"filter on groups":     {"filter=" + url.QueryEscape(`groups.value eq "`+group+`"`) + "&excludedAttributes=groups", `{"totalResults":1,"Resources":[{"id":"` + ids[0] + `","groups":"absent"}]}`},
			"filter without a hit": {"filter=" + url.QueryEscape(`externalId eq "1"`), `{"totalResults":0,"Resources":[]}`},
			"filter on NUL":        {"filter=" + url.QueryEscape(`userName eq "\u0000" or emails eq "\u0000"`), `{"totalResults":0}`},
			"filter on the id":     {"filter=" + url.QueryEscape(`id eq "`+ids[1]+`"`), `{"totalResults":1}`},
			"filter on the time":   {"filter=" + url.QueryEscape(`meta.created gt "2026-03-01T12:00:00.000001Z"`), `{"totalResults":3}`},
		}
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				(&client{t, c.w, c.org, c.token}).do("GET", "/Users?"+test.query, "").is(200).has(test.want)
			})
		}
		c.do("GET", "/Users?count=x", "").refused(400, "invalidValue")
		c.do("GET", "/Users?startIndex=1.5", "").refused(400, "invalidValue")
		c.do("GET", "/Users?filter=x", "").refused(400, "invalidFilter")
		c.do("POST", "/Users/.search", `{"schemas":["urn:ietf:params:scim:api:messages:2.0:SearchRequest"],"filter":"userName sw \"a\"","attributes":["userName"],"startIndex":1,"count":10}`).
			is(200).has(`{"totalResults":1,"Resources":[{"userName":"alpha@example.com","displayName":"absent"}]}`)
		c.do("POST", "/Users/.search", `{"filter":7}`).refused(400, "invalidValue")
		c.do("POST", "/Users/.search", `{"count":"7"}`).refused(400, "invalidValue")
		c.do("POST", "/Users/.search", `{"attributes":[7]}`).refused(400, "invalidValue")

		// Entra ID asks for a group and whether somebody is in it.
		for text, want := range map[string]int{
			`id eq "` + group + `" and members eq "` + ids[0] + `"`: 1,
			`id eq "` + group + `" and members eq "` + ids[1] + `"`: 0,
			`members[value eq "` + ids[0] + `"]`:                    1,
			`members.value sw "` + ids[0][:8] + `"`:                 1,
			`displayName eq "g"`:                                    1,
			`not (members.value eq "` + ids[0] + `")`:               0,
		} {
			c.do("GET", "/Groups?excludedAttributes=members&filter="+url.QueryEscape(text), "").is(200).has(fmt.Sprintf(`{"totalResults":%d}`, want))
		}
		c.do("GET", "/Groups?excludedAttributes=members", "").is(200).has(`{"Resources":[{"displayName":"G","members":"absent"}]}`)
		c.do("POST", "/Groups/.search", `{"filter":"displayName eq \"G\""}`).is(200).has(`{"totalResults":1,"Resources":[{"members":[{"type":"User"}]}]}`)
	})
}

// Whoever pages through the users sees each of those who were there at the start
// once, though others come meanwhile.
func TestPagesStable(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c := w.organization(t, "acme")
		want := map[string]bool{}
		for i := range 25 {
			want[c.user(fmt.Sprintf("m%02d@example.com", i))] = true
			if i%4 == 0 { // several are made at one moment
				w.clock.advance(1000)
			}
		}
		seen := map[string]int{}
		for start := 1; ; start += 7 {
			page := c.do("GET", fmt.Sprintf("/Users?startIndex=%d&count=7", start), "").is(200).resources()
			for _, r := range page {
				seen[r["id"].(string)]++
			}
			if len(page) < 7 {
				break
			}
			if start < 20 {
				w.clock.advance(1000)
				c.user(fmt.Sprintf("a%02d@example.com", start))
			}
		}
		for id := range want {
			if seen[id] != 1 {
				t.Errorf("%s was seen %d times", id, seen[id])
			}
		}
	})
}

func TestTooMany(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c := w.organization(t, "acme")
		crowd(t, w, c.org.ID, scim.MaxScan+1)
		c.do("GET", "/Users?filter="+url.QueryEscape(`displayName co "x"`), "").refused(400, "tooMany")
		c.do("GET", "/Users?filter="+url.QueryEscape(`userName eq "m00007" and displayName co "x"`), "").is(200).has(`{"totalResults":0}`)
		c.do("GET", "/Users?filter="+url.QueryEscape(`not (active eq false) or userName eq "x"`)+"&startIndex=10001", "").is(200).has(`{"totalResults":10001,"itemsPerPage":1}`)
	})
}

// crowd inserts users as rows.
func crowd(t testing.TB, w *world, organizationID string, n int) {
	t.Helper()
	series := "WITH RECURSIVE s (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < ?) "
	ok(t, w.db.Conn(t.Context()).Exec(`INSERT INTO users (id, login, name, email, avatar_url, site_admin, disabled, generation, created, managed_by) `+series+
		`SELECT 'm' || i, 'm' || i, '', '', '', FALSE, 0, 1, 1, ? FROM s`, n, organizationID).Error)
	ok(t, w.db.Conn(t.Context()).Exec(`INSERT INTO scim_users (user_id, organization_id, user_name, folded, external_id, display_name, display_folded, addresses, details, active, version, created, modified, deleted) `+series+
		`SELECT 'm' || i, ?, 'm' || i, 'm' || i, '', '', '', '', '{}', TRUE, 1, i, i, 0 FROM s`, n, organizationID).Error)
}

// What the database selects for a filter is what the filter selects by itself.
func TestFilterInDatabase(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c := w.organization(t, "acme")
		for _, body := range []string{
			`{"userName":"a@x.example","externalId":"E1","displayName":"One","active":true,"emails":[{"value":"a@x.example","type":"work"},{"value":"p%_!q@x.example"}]}`,
			`{"userName":"B@x.example","externalId":"e1","displayName":"ONE","active":false,"emails":[{"value":"B@X.example","type":"home"}]}`,
			`{"userName":"c@x.example","displayName":"two","emails":[{"value":"ab@x.example"}]}`,
			`{"userName":"ÄÖ@x.example","active":false}`,
		} {
			c.do("POST", "/Users", body).is(201)
		}
		for text, want := range map[string]int{`emails eq "%"`: 0, `emails eq "a@x_example"`: 0, `emails eq "P%_!Q@x.example"`: 1} {
			c.do("GET", "/Users?filter="+url.QueryEscape(text), "").is(200).has(fmt.Sprintf(`{"totalResults":%d}`, want))
		}
		everybody := c.do("GET", "/Users", "").is(200).resources()
		leaf := rapid.Custom(func(t *rapid.T) string {
			name := rapid.SampledFrom([]string{"userName", "USERNAME", "externalId", "displayName", "emails", "emails.value", "active", "id", "name.givenName",
				scim.UserSchema + ":userName", "urn:x:userName", `emails[type eq "work"].value`, "meta.resourceType"}).Draw(t, "name")
			op := rapid.SampledFrom([]string{"eq", "eq", "eq", "ne", "co", "sw", "ew", "gt", "pr"}).Draw(t, "op")
			if op == "pr" {
				return name + " pr"
			}
			value := rapid.SampledFrom([]string{`"a@x.example"`, `"b@X.EXAMPLE"`, `"E1"`, `"one"`, `"two"`, `"True"`, `"false"`, `""`, `"p%_!q@x.example"`, `"%"`, `"äö@x.example"`,
				`"\u0000"`, `"\n"`, `true`, `false`, `null`, `1`, `"User"`}).Draw(t, "value")
			return name + " " + op + " " + value
		})
		var tree func(depth int) *rapid.Generator[string]
		tree = func(depth int) *rapid.Generator[string] {
			return rapid.Custom(func(t *rapid.T) string {
				kind := "leaf"
				if depth > 0 {
					kind = rapid.SampledFrom([]string{"leaf", "and", "or", "not"}).Draw(t, "kind")
				}
				switch kind {
				case "and", "or":
					return "(" + tree(depth-1).Draw(t, "left") + ") " + kind + " (" + tree(depth-1).Draw(t, "right") + ")"
				case "not":
					return "not (" + tree(depth-1).Draw(t, "inner") + ")"
				}
				return leaf.Draw(t, "leaf")
			})
		}
		narrowed := 0
		rapid.Check(t, func(rt *rapid.T) {
			text := tree(3).Draw(rt, "filter")
			if _, err := scim.ParseFilter(text); err != nil {
				rt.Skip("no string where there must be one")
			}
			var want, got []string
			for _, r := range everybody {
				if found, _ := scim.Matches(text, r, scim.UserSchema); found {
					want = append(want, r["id"].(string))
				}
			}
			for _, r := range c.do("GET", "/Users?filter="+url.QueryEscape(text), "").is(200).resources() {
				got = append(got, r["id"].(string))
			}
			if sql, _ := scim.Narrowed(text); sql != "" {
				narrowed++
			}
			if !slices.Equal(got, want) {
				rt.Fatalf("%s: the database has %v, the filter %v", text, got, want)
			}
		})
		if narrowed < 10 {
			t.Errorf("only %d filters reached the database", narrowed)
		}
	})
}

func TestNarrowed(t *testing.T) {
	for text, want := range map[string]struct {
		some, exact bool
	}{
		`userName eq "a"`:                           {true, true},
		`externalId eq "a"`:                         {true, true},
		`emails.value eq "a"`:                       {true, true},
		`emails eq "a"`:                             {true, true},
		`active eq true`:                            {true, true},
		`active eq "maybe"`:                         {false, false},
		`userName eq "a" or id eq "b"`:              {true, true},
		`userName eq "a" or title eq "b"`:           {false, false},
		`userName eq "a" and title eq "b"`:          {true, false},
		`not (userName eq "a")`:                     {true, true},
		`not (userName eq "a" and title eq "b")`:    {false, false},
		`userName ne "a"`:                           {false, false},
		`emails[type eq "work"].value eq "a"`:       {true, false},
		`not (emails[type eq "work"].value eq "a")`: {false, false},
		`userName eq ""`:                            {false, false},
		`urn:other:userName eq "a"`:                 {false, false},
		`userName eq true`:                          {false, false},
	} {
		sql, exact := scim.Narrowed(text)
		if (sql != "") != want.some || exact != want.exact {
			t.Errorf("%s: %q, exact %t", text, sql, exact)
		}
	}
}

const sample = `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"id":"Ab1","userName":"Alice","displayName":"Alice Adams","active":true,
	"name":{"familyName":"Adams"},"emails":[{"value":"a@x.example","type":"work","primary":true},{"value":"b@y.example","type":"home","primary":false}],
	"meta":{"resourceType":"User","created":"2026-03-01T12:00:00.000000Z","version":"W/\"1\""}}`

func TestFilter(t *testing.T) {
	var r map[string]any
	if err := json.Unmarshal([]byte(sample), &r); err != nil {
		t.Fatal(err)
	}
	tests := map[string]any{ // true, false, or the byte at which it is refused
		`userName eq "alice"`:                      true,
		`USERNAME EQ "ALICE"`:                      true,
		`userName ne "alice"`:                      false,
		`userName co "LIC"`:                        true,
		`userName sw "al"`:                         true,
		`userName ew "CE"`:                         true,
		`userName gt "Alic"`:                       true,
		`userName ge "alice"`:                      true,
		`userName lt "alice"`:                      false,
		`userName le "alice"`:                      true,
		`userName pr`:                              true,
		`title pr`:                                 false,
		`title eq "x"`:                             false,
		`title ne "x"`:                             true,
		`title eq null`:                            true,
		`not (title pr)`:                           true,
		`not(title pr)`:                            true,
		`id eq "Ab1"`:                              true,
		`id eq "ab1"`:                              false,
		`active eq true`:                           true,
		`active eq "True"`:                         true,
		`active ne true`:                           false,
		`active eq false`:                          false,
		`name.familyName eq "adams"`:               true,
		`name pr`:                                  true,
		`emails pr`:                                true,
		`emails eq "B@y.example"`:                  true,
		`emails.type eq "home"`:                    true,
		`emails co "x.example"`:                    true,
		`emails.value ne "a@x.example"`:            true, // of the other one
		`emails[type eq "work" and value co "@x"]`: true,
		`emails[type eq "home" and value co "@x"]`: false,
		`emails[not (type eq "work") and primary eq false]`:                        true,
		`emails[type eq "work"].value eq "a@x.example"`:                            true,
		`emails[type eq "home"].value eq "a@x.example"`:                            false,
		`emails[type eq "home"].display pr`:                                        false,
		`meta.created eq "2026-03-01T13:00:00+01:00"`:                              true,
		`meta.created lt "2026-03-01T12:00:01Z"`:                                   true,
		`meta.created ge "2026-03-01T12:00:01Z"`:                                   false,
		`urn:ietf:params:scim:schemas:core:2.0:User:userName eq "alice"`:           true,
		`URN:IETF:params:scim:schemas:core:2.0:User:name.familyName eq "ADAMS"`:    true,
		`urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department pr`: false,
		`schemas eq "urn:ietf:params:scim:schemas:core:2.0:User"`:                  true,
		`title pr and title pr or userName pr`:                                     true,  // and before or
		`title pr and (title pr or userName pr)`:                                   false, // but for parentheses
		`userName pr or title pr and title pr`:                                     true,
		`not (userName pr) or active eq true`:                                      true,
		`userName eq "a\u006cice"`:                                                 true,
		`userName eq 5`:                                                            false,
		`userName gt 5`:                                                            false,
		`not pr`:                                                                   false,
		`  userName   eq    "alice"  `:                                             true,

		``:                         1,
		`userName`:                 9,
		`userName eq`:              12,
		`userName eq alice`:        13,
		`userName eq "alice`:       13,
		`userName eq "\x"`:         13,
		`userName is "alice"`:      10,
		`userName eq "a" and`:      20,
		`userName eq "a" userName`: 17,
		`(userName pr`:             13,
		`userName pr)`:             12,
		`emails[type eq "work"`:    22,
		`emails[emails[a pr]]`:     14,
		`emails.value[type pr]`:    14,
		`active gt true`:           15,
		`userName co 5`:            14,
		`userName lt null`:         17,
		`5 eq 5`:                   1,
		`userName eq 01`:           13,
		`userName eq 1e`:           13,
		`urn:1 eq 1`:               5,
		`userName.givenName.x pr`:  19,
		`$ pr`:                     1,
		"userName eq \"\xff\"":     13,
		"userName\teq 1":           9,
	}
	for text, want := range tests {
		got, err := scim.Matches(text, r, scim.UserSchema)
		switch want := want.(type) {
		case bool:
			if err != nil || got != want {
				t.Errorf("%s: %t, %v; want %t", text, got, err, want)
			}
		case int:
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("at byte %d:", want)) {
				t.Errorf("%s: %v, want byte %d", text, err, want)
			}
		}
	}
	nested := func(n int) string { return strings.Repeat("(", n) + "a pr" + strings.Repeat(")", n) }
	if _, err := scim.ParseFilter(nested(20)); err != nil {
		t.Error(err)
	}
	if _, err := scim.ParseFilter(nested(21)); err == nil {
		t.Error("a filter that is too deep is parsed")
	}
	if _, err := scim.ParseFilter(`userName eq "` + strings.Repeat("x", 2048) + `"`); err == nil {
		t.Error("a filter of more than 2 KiB is parsed")
	}
}

func FuzzFilter(f *testing.F) {
	for _, seed := range []string{
		`userName eq "a"`, `a pr and (b pr or not (c pr))`, `emails[type eq "work" and value co "@x"].value eq "y"`,
		`urn:ietf:params:scim:schemas:core:2.0:User:name.familyName co "O'Malley"`, `a eq -1.5e3 or b ne null`, `not not (a pr)`, `a eq "\ud83d\ude00\n"`,
		`(((a pr)))`, `a pr or (b pr or c pr) and (d pr and e pr)`, `members[value eq "x"]`,
	} {
		f.Add(seed)
	}
	var r map[string]any
	if err := json.Unmarshal([]byte(sample), &r); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_ = scim.ParsePath(text)
		one, err := scim.ParseFilter(text)
		if err != nil {
			return
		}
		_, _ = scim.Narrowed(text)
		first, _ := scim.Matches(text, r, scim.UserSchema)
		if len(one) > 2048 {
			return
		}
		two, err := scim.ParseFilter(one)
		if err != nil || one != two {
			t.Fatalf("%q is printed as %q, which is parsed as %q, %v", text, one, two, err)
		}
		if second, _ := scim.Matches(one, r, scim.UserSchema); first != second {
			t.Fatalf("%q matches: %t, but %q: %t", text, first, one, second)
		}
	})
}

func FuzzPatch(f *testing.F) {
	for _, ops := range []string{
		`[{"op":"Replace","path":"emails[type eq \"work\"].value","value":"new@example.com"},{"op":"add","path":"emails[type eq \"home\" and primary eq true].value","value":"h@x.example"}]`,
		`[{"op":"add","value":{"name.givenName":"x","emails":[{"value":"c@x.example","primary":true}],"members":[{"value":"m"}]}}]`,
		`[{"op":"remove","path":"members[display co \"M\" or not (value eq \"x\")]"},{"op":"remove","path":"emails[primary eq true].primary"}]`,
		`[{"op":"replace","path":"emails.primary","value":true},{"op":"replace","path":"active","value":[{"value":"False"}]}]`,
	} {
		f.Add([]byte(patch(ops)))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if primary, _ := scim.Patch(body); primary > 1 {
			t.Fatalf("%d addresses are primary", primary)
		}
	})
}
