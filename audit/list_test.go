package audit_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/database/databasetest"
	"github.com/ipuka/ipuka/internal/errs"
)

// matches is what a filter means, said without a database.
func matches(q audit.Query, e audit.Entry) bool {
	return (q.Event == "" || q.Event == e.Event.Name) &&
		(q.User == "" || strings.EqualFold(q.User, e.Event.Actor.Login)) &&
		(q.Object == "" || q.Object == e.Event.Object) &&
		(q.Result == "" || q.Result == e.Outcome.Result) &&
		(q.From.IsZero() || !e.Time.Before(q.From)) &&
		(q.To.IsZero() || e.Time.Before(q.To))
}

// What is listed is exactly what was appended, for every filter and page size.
func TestListedIsAppended(t *testing.T) {
	each(t, func(t *testing.T, db *database.DB, log *audit.Log) {
		runs := 0
		rapid.Check(t, func(rt *rapid.T) {
			runs++
			name := fmt.Sprintf("org%d", runs)
			var appended []audit.Entry
			if err := db.Tx(t.Context(), func(ctx context.Context) error { // one commit, for speed
				appended = appendSome(ctx, rt, log, name)
				return nil
			}); err != nil {
				rt.Fatal(err)
			}
			all := list(t, log, name, audit.Query{Limit: 1000})
			if len(all) != len(appended) {
				rt.Fatalf("%d appended, %d listed", len(appended), len(all))
			}
			for i, got := range all {
				want := appended[len(appended)-1-i]
				want.Time = got.Time
				if !reflect.DeepEqual(got, want) {
					rt.Fatalf("listed   %+v\nappended %+v", got, want)
				}
			}
			q := query(rt, all)
			var want []audit.Ref
			for _, e := range all {
				if matches(q, e) {
					want = append(want, e.Ref)
				}
			}
			var got []audit.Ref
			for _, e := range list(t, log, name, q) {
				got = append(got, e.Ref)
			}
			if !slices.Equal(got, want) {
				rt.Fatalf("%+v\ngot  %v\nwant %v", q, got, want)
			}
		})
	})
}

var (
	someNames   = []string{"stack-created", "stack-update-started", "user-login"}
	someLogins  = []string{"", "alice", "Bob"}
	someObjects = []string{"acme/web/prod", "acme/web/dev"}
	someResults = []audit.Result{audit.Succeeded, audit.Failed, audit.Unknown}
)

func appendSome(ctx context.Context, rt *rapid.T, log *audit.Log, name string) []audit.Entry {
	var entries []audit.Entry
	var open []int
	for i := range rapid.IntRange(0, 10).Draw(rt, "events") {
		e := event(rapid.SampledFrom(someObjects).Draw(rt, "object"))
		e.Name = rapid.SampledFrom(someNames).Draw(rt, "name")
		e.Actor.Login = rapid.SampledFrom(someLogins).Draw(rt, "login")
		o := audit.Outcome{Result: rapid.SampledFrom(someResults).Draw(rt, "result"), Status: rapid.IntRange(0, 599).Draw(rt, "status")}
		entry := audit.Entry{Event: e, Outcome: audit.Outcome{Result: audit.Unknown}}
		var err error
		switch rapid.IntRange(0, 2).Draw(rt, "kind") {
		case 0:
			entry.Outcome = o
			entry.Ref, err = log.AppendDone(ctx, name, e, o)
		case 1:
			entry.Ref, err = log.Append(ctx, name, e)
			open = append(open, i)
		case 2:
			entry.Ref, err = log.Append(ctx, name, e)
			if len(open) > 0 {
				n := rapid.IntRange(0, len(open)-1).Draw(rt, "which")
				if err := log.Complete(ctx, entries[open[n]].Ref, o); err != nil {
					rt.Fatal(err)
				}
				entries[open[n]].Outcome = o
				open = slices.Delete(open, n, n+1)
			}
			open = append(open, i)
		}
		if err != nil {
			rt.Fatal(err)
		}
		entries = append(entries, entry)
	}
	return entries
}

func query(rt *rapid.T, all []audit.Entry) audit.Query {
	q := audit.Query{
		Event:  rapid.SampledFrom(append(someNames, "")).Draw(rt, "q.event"),
		User:   rapid.SampledFrom([]string{"", "", "ALICE", "bob", "carol"}).Draw(rt, "q.user"),
		Object: rapid.SampledFrom([]string{"", "", "acme/web/prod", "acme/web/pro"}).Draw(rt, "q.object"),
		Result: rapid.SampledFrom(append(someResults, "")).Draw(rt, "q.result"),
		Limit:  rapid.IntRange(0, 4).Draw(rt, "q.limit"),
	}
	if len(all) > 0 {
		offset := rapid.SampledFrom([]time.Duration{0, time.Microsecond, -time.Microsecond, time.Hour, -time.Hour})
		at := rapid.SampledFrom(all)
		if rapid.Bool().Draw(rt, "from") {
			q.From = at.Draw(rt, "q.from").Time.Add(offset.Draw(rt, "q.from+"))
		}
		if rapid.Bool().Draw(rt, "to") {
			q.To = at.Draw(rt, "q.to").Time.Add(offset.Draw(rt, "q.to+"))
		}
	}
	return q
}

func TestEventNamesInEverySpelling(t *testing.T) {
	log := open(t, databasetest.SQLite(t, audit.Migrations))
	e := event("x")
	e.Name = "stack-created"
	if _, err := log.Append(t.Context(), "org1", e); err != nil {
		t.Fatal(err)
	}
	for _, spelling := range []string{"stack-created", "Stack Created", "stack.created", "STACK.CREATED", "stack.create", " Stack-Create ", "stack_created"} {
		if got := list(t, log, "org1", audit.Query{Event: spelling}); len(got) != 1 {
			t.Errorf("%q finds %d events", spelling, len(got))
		}
	}
	for _, spelling := range []string{"stack", "stack-createdd", "-", "stack created'--"} {
		if _, err := log.List(t.Context(), "org1", audit.Query{Event: spelling}); !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), spelling) {
			t.Errorf("%q: %v", spelling, err)
		}
	}
	if _, err := log.List(t.Context(), "org1", audit.Query{Result: "ok"}); !errors.Is(err, errs.Invalid) {
		t.Errorf("result: %v", err)
	}
}

func TestPageSize(t *testing.T) {
	log := open(t, databasetest.SQLite(t, audit.Migrations))
	for range 101 {
		if _, err := log.Append(t.Context(), "org1", event("x")); err != nil {
			t.Fatal(err)
		}
	}
	for limit, want := range map[int]int{0: 100, 1: 1, 101: 101, 1 << 40: 101, -1: 100} {
		page, err := log.List(t.Context(), "org1", audit.Query{Limit: limit})
		if err != nil || len(page.Entries) != want || (page.Next == "") != (want == 101) {
			t.Errorf("limit %d: %d entries, next %q, %v", limit, len(page.Entries), page.Next, err)
		}
	}
}

func TestCursorIsBoundToItsList(t *testing.T) {
	log := open(t, databasetest.SQLite(t, audit.Migrations))
	for range 5 {
		for _, name := range []string{"org1", "org2"} {
			if _, err := log.Append(t.Context(), name, event("x")); err != nil {
				t.Fatal(err)
			}
		}
	}
	q := audit.Query{User: "alice", Limit: 2}
	page, err := log.List(t.Context(), "org1", q)
	if err != nil || page.Next == "" {
		t.Fatal(page, err)
	}
	cursor := page.Next
	raw, _ := base64.RawURLEncoding.DecodeString(cursor)
	negative := slices.Clone(raw)
	negative[0] |= 0x80
	from := time.Unix(1, 0)
	for name, c := range map[string]struct {
		log string
		q   audit.Query
	}{
		"another log":    {"org2", audit.Query{User: "alice", Cursor: cursor}},
		"another user":   {"org1", audit.Query{User: "bob", Cursor: cursor}},
		"no user":        {"org1", audit.Query{Cursor: cursor}},
		"another event":  {"org1", audit.Query{User: "alice", Event: "stack-created", Cursor: cursor}},
		"another object": {"org1", audit.Query{User: "alice", Object: "y", Cursor: cursor}},
		"another result": {"org1", audit.Query{User: "alice", Result: audit.Failed, Cursor: cursor}},
		"another from":   {"org1", audit.Query{User: "alice", From: from, Cursor: cursor}},
		"another to":     {"org1", audit.Query{User: "alice", To: from, Cursor: cursor}},
		"garbage":        {"org1", audit.Query{User: "alice", Cursor: "%%%"}},
		"a number":       {"org1", audit.Query{User: "alice", Cursor: "12345"}},
		"cut":            {"org1", audit.Query{User: "alice", Cursor: cursor[:len(cursor)-4]}},
		"longer":         {"org1", audit.Query{User: "alice", Cursor: cursor + "AAAA"}},
		"line break":     {"org1", audit.Query{User: "alice", Cursor: cursor + "\n"}},
		"negative":       {"org1", audit.Query{User: "alice", Cursor: base64.RawURLEncoding.EncodeToString(negative)}},
	} {
		if page, err := log.List(t.Context(), c.log, c.q); !errors.Is(err, errs.Invalid) || !strings.Contains(errs.Public(err), "continuation token") {
			t.Errorf("%s: %v, %v", name, page.Entries, err)
		}
	}
	q.Cursor, q.User, q.Limit = cursor, "ALICE", 100 // the same filter
	if page, err := log.List(t.Context(), "org1", q); err != nil || len(page.Entries) != 3 || page.Entries[0].Index != 2 {
		t.Errorf("the same list: %v, %v", page, err)
	}
}

func FuzzCursor(f *testing.F) {
	db := databasetest.SQLite(f, audit.Migrations)
	log := open(f, db)
	f.Add("AAAAAAAAAAMAAAAAAAAAAAAAAAAAAAAA")
	f.Add("")
	f.Fuzz(func(t *testing.T, cursor string) {
		_, err := log.List(t.Context(), "org1", audit.Query{Cursor: cursor})
		if (cursor == "") != (err == nil) || err != nil && !errors.Is(err, errs.Invalid) {
			t.Errorf("%q: %v", cursor, err)
		}
	})
}

func TestCatalogue(t *testing.T) {
	all := audit.Catalogue()
	categories := []string{"authentication", "access-tokens", "organization", "teams", "stacks", "deployments", "policy", "encryption", "integrations"}
	if !slices.IsSortedFunc(all, func(a, b audit.EventType) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("not in order")
	}
	for _, e := range all {
		if !slices.Contains(categories, e.Category) || !strings.HasSuffix(e.Description, ".") || strings.ToLower(e.Name) != e.Name {
			t.Errorf("%+v", e)
		}
		for _, spelling := range []string{e.Name, e.Title, strings.ToUpper(e.Title), strings.ReplaceAll(e.Name, "-", ".")} {
			if name, ok := audit.Lookup(spelling); !ok || name != e.Name {
				t.Errorf("Lookup(%q) = %q", spelling, name)
			}
		}
	}
	for name, want := range map[string]audit.EventType{
		"stack-deleted":              {Title: "Stack Deleted", Category: "stacks", StackAdmin: true},
		"member-added":               {Title: "Member Added", Category: "organization", OrganizationAdmin: true},
		"user-login-failed":          {Title: "User Login Failed", Category: "authentication", AuthenticationFailure: true},
		"saml-configuration-updated": {Title: "SAML Configuration Updated", Category: "authentication", OrganizationAdmin: true},
		"user-login":                 {Title: "User Login", Category: "authentication"},
	} {
		got, ok := audit.Describe(name)
		want.Name, want.Description = name, got.Description
		if !ok || got != want {
			t.Errorf("Describe(%q) = %+v", name, got)
		}
	}
	if _, ok := audit.Describe("Stack Deleted"); ok {
		t.Error("Describe takes a display name")
	}
}
