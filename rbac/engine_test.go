package rbac_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/database/databasetest"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/rbac"
)

func TestChangesCountWhenTheCallReturns(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		if !h.may(h.admin, "audit_logs:read", org) {
			t.Fatal("the organization's creator is no admin")
		}
		alice, bob := h.member(t, "alice"), h.member(t, "bob")
		check := func(what string, user identity.Principal, permission rbac.Permission, o rbac.Object, want bool) {
			t.Helper()
			if got := h.Snapshot().Decide(user.UserID, permission, o); got.Allow != want {
				t.Errorf("%s: %s %s %s: %+v", what, user.Login, permission, o, got)
			}
		}
		check("default", alice, "stack:read", prod, true)
		check("default", alice, "stack:write", prod, false)
		must(t, h.StackCreated(ctx, prod, alice.UserID))
		check("creator", alice, "stack:delete", prod, true)
		check("creator", bob, "stack:write", prod, false)
		must(t, h.SetDefaultPermission(ctx, h.admin, "acme", rbac.None))
		check("default none", bob, "stack:read", prod, false)
		check("default none", alice, "stack:read", prod, true)
		must(t, h.Grant(ctx, h.admin, prod, bob.UserID, rbac.Write))
		check("granted", bob, "stack:write", prod, true)
		must(t, h.Grant(ctx, h.admin, prod, bob.UserID, rbac.Read))
		check("granted less", bob, "stack:write", prod, false)
		must(t, h.StackRenamed(ctx, prod, dev))
		check("renamed", bob, "stack:read", dev, true)
		check("renamed", bob, "stack:read", prod, false)
		must(t, h.StackCreated(ctx, prod, bob.UserID))
		check("a new stack of the name", alice, "stack:read", prod, false)
		check("a new stack of the name", bob, "stack:delete", prod, true)
		must(t, h.StackRenamed(ctx, prod, dev)) // over the other one
		check("renamed over", alice, "stack:read", dev, false)
		must(t, h.Revoke(ctx, h.admin, dev, bob.UserID))
		check("revoked", bob, "stack:read", dev, false)
		must(t, h.StackCreated(ctx, dev, alice.UserID))
		must(t, h.StackDeleted(ctx, dev))
		check("deleted", alice, "stack:read", dev, false)
		must(t, h.directory.SetRole(ctx, h.admin, h.acme.ID, "alice", identity.RoleAdmin))
		check("admin", alice, "org_member:add", org, true)
		must(t, h.directory.SetRole(ctx, h.admin, h.acme.ID, "alice", identity.RoleMember))
		check("no longer admin", alice, "org_member:add", org, false)
		must(t, h.directory.Disable(ctx, h.admin, alice.UserID))
		check("disabled", alice, "organization:member", org, false)
		if level, err := h.DefaultPermission(ctx, "ACME"); err != nil || level != rbac.None {
			t.Errorf("DefaultPermission = %v, %v", level, err)
		}
	})
}

func TestGrantsEndWithMembership(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		alice, bob := h.member(t, "alice"), h.member(t, "bob")
		for _, user := range []identity.Principal{alice, bob} {
			must(t, h.Grant(ctx, h.admin, prod, user.UserID, rbac.Admin))
		}
		must(t, h.directory.Disable(ctx, h.admin, bob.UserID))
		must(t, h.directory.RemoveMember(ctx, h.admin, h.acme.ID, "alice"))
		for _, user := range []identity.Principal{alice, bob} {
			if got := h.Snapshot().Decide(user.UserID, "stack:read", prod); got.Allow || got.Visible {
				t.Errorf("%s: %+v", user.Login, got)
			}
		}
		must(t, h.directory.Enable(ctx, h.admin, bob.UserID))
		if !h.may(bob, "stack:delete", prod) {
			t.Error("disabling for a while has taken a grant away")
		}
		_, err := h.directory.AddMember(ctx, h.admin, h.acme.ID, "alice", identity.RoleMember)
		must(t, err)
		if h.may(alice, "stack:write", prod) {
			t.Error("somebody who joined again has the grants of last time")
		}
		if open(t, h.db).may(alice, "stack:write", prod) {
			t.Error("a restart brings them back")
		}
		grants, err := h.Grants(ctx, prod)
		if err != nil || len(grants) != 1 || grants[0].UserID != bob.UserID || grants[0].Level != rbac.Admin || grants[0].Created.IsZero() {
			t.Errorf("Grants = %+v, %v", grants, err)
		}
	})
}

func TestRefusedChanges(t *testing.T) {
	h := build(t, databasetest.SQLite(t, migrations...))
	ctx := t.Context()
	alice, stranger := h.member(t, "alice"), h.user(t, "stranger")
	before := h.Snapshot()
	for name, c := range map[string]struct {
		err  error
		want errs.Kind
	}{
		"level":                {h.Grant(ctx, h.admin, prod, alice.UserID, 104), errs.Invalid},
		"negative level":       {h.Grant(ctx, h.admin, prod, alice.UserID, -1), errs.Invalid},
		"no member":            {h.Grant(ctx, h.admin, prod, stranger.UserID, rbac.Read), errs.NotFound},
		"no user":              {h.Grant(ctx, h.admin, prod, "", rbac.Read), errs.NotFound},
		"no organization":      {h.Grant(ctx, h.admin, object("other", "web", "prod"), alice.UserID, rbac.Read), errs.NotFound},
		"no stack":             {h.Grant(ctx, h.admin, org, alice.UserID, rbac.Read), errs.Invalid},
		"no project":           {h.StackCreated(ctx, object("Acme", "", "prod"), alice.UserID), errs.Invalid},
		"no creator":           {h.StackCreated(ctx, prod, "nobody"), errs.NotFound},
		"rename to no stack":   {h.StackRenamed(ctx, prod, org), errs.Invalid},
		"default level":        {h.SetDefaultPermission(ctx, h.admin, "acme", 1), errs.Invalid},
		"default of no one":    {h.SetDefaultPermission(ctx, h.admin, "other", rbac.Read), errs.NotFound},
		"Revoke of a stranger": {h.Revoke(ctx, h.admin, prod, stranger.UserID), errs.NotFound},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v", name, c.err)
		}
	}
	if h.Snapshot() != before {
		t.Error("a refused change has changed the rules")
	}
}

func TestChangesAreOnRecord(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		ctx := t.Context()
		alice := h.member(t, "alice")
		must(t, h.Grant(ctx, h.admin, prod, alice.UserID, rbac.Read))
		must(t, h.Grant(ctx, h.admin, prod, alice.UserID, rbac.Read)) // changes nothing
		must(t, h.Grant(ctx, h.admin, prod, alice.UserID, rbac.Admin))
		must(t, h.Revoke(ctx, h.admin, prod, alice.UserID))
		must(t, h.Revoke(ctx, h.admin, prod, alice.UserID))
		must(t, h.SetDefaultPermission(ctx, h.admin, "acme", rbac.Read)) // it is
		must(t, h.SetDefaultPermission(ctx, h.admin, "acme", rbac.Write))
		page, err := h.log.List(ctx, h.acme.ID, audit.Query{})
		must(t, err)
		var got []string
		for i := len(page.Entries) - 1; i >= 0; i-- {
			e := page.Entries[i]
			if e.Event.Actor.ID == h.admin.UserID && (strings.HasPrefix(e.Event.Name, "stack-") || e.Event.Name == "organization-settings-changed") {
				got = append(got, fmt.Sprint(e.Event.Name, " ", e.Event.Object, " ", e.Event.Before["permission"], "→", e.Event.After["permission"], " ", e.Outcome.Result))
			}
		}
		want := []string{
			"stack-collaborator-added Acme/web/prod →read succeeded",
			"stack-collaborator-permissions-changed Acme/web/prod read→admin succeeded",
			"stack-collaborator-removed Acme/web/prod admin→ succeeded",
			"organization-settings-changed Acme → succeeded",
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("recorded %q", got)
		}
	})
}

// refusing is an audit log that fails.
type refusing struct{}

func (refusing) AppendDone(context.Context, string, audit.Event, audit.Outcome) (audit.Ref, error) {
	return audit.Ref{}, errs.Errorf(errs.Unavailable, "no log")
}

func TestNoRecordNoChange(t *testing.T) {
	h := build(t, databasetest.SQLite(t, migrations...))
	alice := h.member(t, "alice")
	engine, err := rbac.Open(t.Context(), rbac.Config{DB: h.db, Directory: h.directory, Audit: refusing{}})
	must(t, err)
	for _, err := range []error{
		engine.Grant(t.Context(), h.admin, prod, alice.UserID, rbac.Admin),
		engine.SetDefaultPermission(t.Context(), h.admin, "acme", rbac.Admin),
	} {
		if !errors.Is(err, errs.Unavailable) {
			t.Errorf("without a record: %v", err)
		}
	}
	must(t, engine.Reload(t.Context()))
	if engine.Snapshot().Decide(alice.UserID, "stack:write", prod).Allow {
		t.Error("changed without a record")
	}
}

func TestChangeInATransactionCountsAfterItsCommit(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		alice := h.member(t, "alice")
		boom := errors.New("boom")
		for _, want := range []error{boom, nil} {
			err := h.db.Tx(t.Context(), func(ctx context.Context) error {
				if err := h.StackCreated(ctx, prod, alice.UserID); err != nil {
					return err
				}
				if h.may(alice, "stack:write", prod) {
					t.Error("counts before the commit")
				}
				return want
			})
			if !errors.Is(err, want) || h.may(alice, "stack:write", prod) != (want == nil) {
				t.Errorf("after %v: %v", want, err)
			}
		}
	})
}

// A revocation that has returned is never undone, whatever is read again at the
// same time: a thousand of them, over so few rules that reading them all is quick.
func TestRevocationsSurviveReloads(t *testing.T) {
	const rounds, stacks = 10, 100
	h := build(t, databasetest.SQLite(t, migrations...))
	ctx := t.Context()
	alice := h.member(t, "alice")
	h.user(t, "bob")
	must(t, h.SetDefaultPermission(ctx, h.admin, "acme", rbac.None))
	for range rounds {
		must(t, h.db.Conn(ctx).Exec(`WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?)
			INSERT INTO grants (org_id, project, stack, user_id, login, level, created)
			SELECT ?, 'web', 's' || i, ?, ?, ?, 0 FROM n`, stacks, h.acme.ID, alice.UserID, alice.Login, int64(rbac.Admin)).Error)
		must(t, h.Reload(ctx))
		targets := make([]rbac.Object, stacks)
		for i := range targets {
			targets[i] = object("Acme", "web", fmt.Sprint("s", i))
			if !h.may(alice, "stack:delete", targets[i]) {
				t.Fatalf("stack %d is not granted", i)
			}
		}
		revokeDuringReloads(t, h, alice, targets)
	}
}

func revokeDuringReloads(t *testing.T, h *house, alice identity.Principal, targets []rbac.Object) {
	const workers = 8
	ctx := t.Context()
	var next atomic.Int64
	revoked := make([]atomic.Bool, len(targets))
	stop := make(chan struct{})
	var reloads, group sync.WaitGroup
	disturb := func(times int, fn func() error) {
		reloads.Go(func() {
			for range times {
				select {
				case <-stop:
					return
				default:
				}
				if err := fn(); err != nil {
					t.Error(err)
					return
				}
				for i := range revoked {
					if revoked[i].Load() && h.may(alice, "stack:read", targets[i]) {
						t.Errorf("stack %d is allowed again", i)
						return
					}
				}
			}
		})
	}
	disturb(20, func() error { return h.Reload(ctx) })
	disturb(2, func() error {
		if _, err := h.directory.AddMember(ctx, h.admin, h.acme.ID, "bob", identity.RoleMember); err != nil {
			return err
		}
		return h.directory.RemoveMember(ctx, h.admin, h.acme.ID, "bob")
	})
	for range workers {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(targets); i = int(next.Add(1)) - 1 {
				take := func() error { return h.Revoke(ctx, h.admin, targets[i], alice.UserID) }
				if i%10 > 0 { // which is quicker, having no record
					take = func() error { return h.StackDeleted(ctx, targets[i]) }
				}
				if err := take(); err != nil {
					t.Error(err)
					return
				}
				if h.may(alice, "stack:read", targets[i]) {
					t.Errorf("stack %d is allowed after it was revoked", i)
				}
				revoked[i].Store(true)
			}
		})
	}
	group.Wait()
	close(stop)
	reloads.Wait()
	for i := range targets {
		if h.may(alice, "stack:read", targets[i]) {
			t.Errorf("stack %d is allowed in the end", i)
		}
	}
}

func TestReplicasFollowEachOther(t *testing.T) {
	url := databasetest.PostgresURL(t)
	a := build(t, databasetest.Open(t, url, migrations...))
	b := open(t, databasetest.Open(t, url, migrations...))
	ctx := t.Context()
	alice := a.member(t, "alice")
	follow := func(what string, want bool, permission rbac.Permission) {
		t.Helper()
		must(t, b.Refresh())
		if b.may(alice, permission, prod) != want {
			t.Errorf("%s: the other process still says %v", what, !want)
		}
		if a.Snapshot().Version() != b.Snapshot().Version() {
			t.Errorf("%s: versions %d and %d", what, a.Snapshot().Version(), b.Snapshot().Version())
		}
	}
	follow("member added", true, "stack:read")
	must(t, a.StackCreated(ctx, prod, alice.UserID))
	follow("stack created", true, "stack:delete")
	must(t, a.Revoke(ctx, a.admin, prod, alice.UserID))
	follow("revoked", false, "stack:delete")
	must(t, a.SetDefaultPermission(ctx, a.admin, "acme", rbac.Write))
	follow("default", true, "stack:write")
	must(t, a.Grant(ctx, a.admin, prod, alice.UserID, rbac.Admin))
	must(t, a.directory.RemoveMember(ctx, a.admin, a.acme.ID, "alice"))
	follow("removed", false, "stack:read")

	// Many changes by both at once end in the same rules.
	_, err := a.directory.AddMember(ctx, a.admin, a.acme.ID, "alice", identity.RoleMember)
	must(t, err)
	var group sync.WaitGroup
	for i, h := range []*house{a, b} {
		for w := range 4 {
			group.Go(func() {
				for n := range 20 {
					level := []rbac.Level{rbac.None, rbac.Read, rbac.Admin}[(i+w+n)%3]
					if err := h.Grant(ctx, a.admin, object("Acme", "web", fmt.Sprint(n%5)), alice.UserID, level); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	group.Wait()
	for _, h := range []*house{a, b} {
		must(t, h.Refresh())
		equalsReference(t, h, "0", "1", "2", "3", "4")
	}
}

func TestEngineEqualsCasbinAfterAnyChanges(t *testing.T) {
	db := databasetest.SQLite(t, migrations...)
	h := build(t, db)
	var people []identity.Principal
	for _, login := range []string{"alice", "bob", "carol"} {
		people = append(people, h.user(t, login))
	}
	second, err := h.directory.CreateOrganization(t.Context(), h.admin, "beta", "")
	must(t, err)
	rapid.Check(t, func(rt *rapid.T) {
		ctx := context.Background()
		for range rapid.IntRange(1, 8).Draw(rt, "changes") {
			user := rapid.SampledFrom(people).Draw(rt, "user")
			org := rapid.SampledFrom([]identity.Organization{h.acme, second}).Draw(rt, "organization")
			at := object(org.Login, "web", rapid.SampledFrom([]string{"prod", "dev"}).Draw(rt, "stack"))
			to := object(org.Login, "web", rapid.SampledFrom([]string{"prod", "dev"}).Draw(rt, "to"))
			level := rapid.SampledFrom([]rbac.Level{rbac.None, rbac.Read, rbac.Write, rbac.Admin}).Draw(rt, "level")
			role := rapid.SampledFrom([]identity.Role{identity.RoleAdmin, identity.RoleMember}).Draw(rt, "role")
			var err error
			switch rapid.IntRange(0, 9).Draw(rt, "change") {
			case 0, 1:
				err = h.Grant(ctx, h.admin, at, user.UserID, level)
			case 2:
				err = h.StackCreated(ctx, at, user.UserID)
			case 3:
				err = h.StackRenamed(ctx, at, to)
			case 4:
				err = h.StackDeleted(ctx, at)
			case 5:
				err = h.SetDefaultPermission(ctx, h.admin, org.Login, level)
			case 6, 7:
				_, err = h.directory.AddMember(ctx, h.admin, org.ID, user.Login, role)
			case 8:
				err = h.directory.RemoveMember(ctx, h.admin, org.ID, user.Login)
			case 9:
				err = h.directory.SetRole(ctx, h.admin, org.ID, user.Login, role)
			}
			if err != nil && !errors.Is(err, errs.NotFound) && !errors.Is(err, errs.Conflict) {
				rt.Fatal(err)
			}
		}
		equalsReference(rt, h, "prod", "dev")
	})
}

// When the rules cannot be read after a change, nothing is allowed until they can.
func TestUnreadableRulesRefuseEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, databasetest.SQLite(t, migrations...))
		alice := h.member(t, "alice")
		must(t, h.StackCreated(t.Context(), prod, alice.UserID))
		rename := func(from, to string) {
			must(t, h.db.Conn(t.Context()).Exec("ALTER TABLE "+from+" RENAME TO "+to).Error)
		}
		rename("organization_access", "elsewhere")
		must(t, h.directory.SetRole(t.Context(), h.admin, h.acme.ID, "alice", identity.RoleAdmin))
		snapshot := h.Snapshot()
		if d := snapshot.Decide(h.admin.UserID, "stack:read", prod); d.Allow || d.Visible || !errors.Is(snapshot.Err(), errs.Unavailable) {
			t.Errorf("with unreadable rules: %+v, %v", d, snapshot.Err())
		}
		rename("elsewhere", "organization_access")
		for h.Snapshot().Err() != nil {
			time.Sleep(time.Second) // of the bubble's clock
		}
		if !h.may(alice, "audit_logs:read", org) {
			t.Error("the change that could not be read is lost")
		}
	})
}

// A change costs what it touches, however many rules there are: what did not change
// is not read again.
func TestOnlyWhatWasTouchedIsReadAgain(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		alice := h.member(t, "alice")
		must(t, h.StackCreated(t.Context(), prod, alice.UserID))
		must(t, h.db.Conn(t.Context()).Exec("DELETE FROM grants").Error) // behind the engine's back
		must(t, h.StackCreated(t.Context(), dev, alice.UserID))
		h.member(t, "bob")
		if !h.may(alice, "stack:delete", prod) || !h.may(alice, "stack:delete", dev) {
			t.Error("a change has read more than it touched")
		}
		must(t, h.Reload(t.Context()))
		if h.may(alice, "stack:delete", prod) {
			t.Error("reading everything has not")
		}
	})
}

func TestFarBehindReadsEverything(t *testing.T) {
	h := build(t, databasetest.SQLite(t, migrations...))
	ctx := t.Context()
	behind := open(t, h.db)
	alice := h.member(t, "alice")
	must(t, h.StackCreated(ctx, prod, alice.UserID))
	// Some thousand changes later, of which the first are no longer kept.
	must(t, h.db.Conn(ctx).Exec("UPDATE access_version SET version = 8191 WHERE id = 1").Error)
	must(t, h.StackCreated(ctx, dev, alice.UserID))
	var kept int64
	must(t, h.db.Reader(ctx).Raw("SELECT count(*) FROM access_changes").Scan(&kept).Error)
	if kept != 1 {
		t.Errorf("%d changes are kept", kept)
	}
	must(t, behind.Refresh())
	for _, e := range []*house{h, behind} {
		if !e.may(alice, "stack:delete", prod) || !e.may(alice, "stack:delete", dev) || e.Snapshot().Version() != 8192 {
			t.Errorf("at version %d something is missing", e.Snapshot().Version())
		}
	}
}

func TestPermissionsOfARole(t *testing.T) {
	h := build(t, databasetest.SQLite(t, migrations...))
	if got := h.Permissions("organization-admin"); !reflect.DeepEqual(got, rbac.AllPermissions()) {
		t.Errorf("an admin has %d permissions", len(got))
	}
	if got := h.Permissions("stack-read"); len(got) != 10 || got[0] != "stack:list" {
		t.Errorf("read is %v", got)
	}
	if got := h.Permissions("stack"); got != nil {
		t.Errorf("an unknown role has %v", got)
	}
	if !h.Known("stack:read") || h.Known("stack:fly") {
		t.Error("Known")
	}
}
