package identity_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
)

func TestUpdateProfile(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice := w.user(t, "alice")
		w.audit.take()
		name, picture, none := "Alice \x1b Smith", "https://example.com/a.png", ""
		ok(t, w.UpdateProfile(t.Context(), alice, alice.UserID, identity.Profile{Name: &name, AvatarURL: &picture}))
		ok(t, w.UpdateProfile(t.Context(), alice, alice.UserID, identity.Profile{Name: &name}))
		ok(t, w.UpdateProfile(t.Context(), alice, alice.UserID, identity.Profile{}))
		if u, err := w.User(t.Context(), alice.UserID); err != nil || u.Name != "Alice  Smith" || u.AvatarURL != picture {
			t.Errorf("%+v, %v", u, err)
		}
		e := w.audit.entries
		if len(e) != 1 || e[0].event.Name != "user-updated" || e[0].event.Before["name"] != "alice" || e[0].event.After["name"] != "Alice  Smith" || e[0].event.After["login"] != "" {
			t.Errorf("recorded %+v", e)
		}
		for _, bad := range []string{"http://example.com", "javascript:alert(1)", "https://x\ny", "https://" + strings.Repeat("x", 2048), "https://\xff"} {
			kind(t, w.UpdateProfile(t.Context(), alice, alice.UserID, identity.Profile{AvatarURL: &bad}), errs.Invalid)
		}
		ok(t, w.UpdateProfile(t.Context(), alice, alice.UserID, identity.Profile{Name: &none, AvatarURL: &none}))
		if u, err := w.User(t.Context(), alice.UserID); err != nil || u.Name != "alice" || u.AvatarURL != "" {
			t.Errorf("%+v, %v", u, err)
		}
		kind(t, w.UpdateProfile(t.Context(), alice, "nobody", identity.Profile{Name: &name}), errs.NotFound)
	})
}

func TestSetEmail(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice := w.user(t, "alice")
		is := func(address string, verified bool) {
			t.Helper()
			if u, err := w.User(t.Context(), alice.UserID); err != nil || u.Email != address || u.EmailVerified != verified {
				t.Errorf("%+v, %v", u, err)
			}
		}
		ok(t, w.SetEmail(t.Context(), alice, alice.UserID, "Alice@New.example.com", true))
		is("alice@new.example.com", true)
		kind(t, w.SetEmail(t.Context(), alice, alice.UserID, "alice", true), errs.Invalid)
		is("alice@new.example.com", true)
		ok(t, w.SetEmail(t.Context(), alice, alice.UserID, "other@example.com", false))
		is("other@example.com", false)
		ok(t, w.SetEmail(t.Context(), alice, alice.UserID, "", true))
		is("", false)
	})
}

func TestRenameUser(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice := w.user(t, "alice")
		w.user(t, "bob")
		ok(t, w.RenameUser(t.Context(), alice, alice.UserID, "Alicia"))
		for _, login := range []string{"alice", "ALICIA"} {
			if u, err := w.UserByLogin(t.Context(), login); err != nil || u.ID != alice.UserID || u.Login != "Alicia" || u.Name != "Alicia" {
				t.Errorf("%s is %+v, %v", login, u, err)
			}
		}
		// The old name is nobody else's, and nobody's name is the user's.
		_, err := w.CreateUser(t.Context(), identity.Principal{}, identity.NewUser{Login: "alice"})
		kind(t, err, errs.Conflict)
		_, err = w.CreateOrganization(t.Context(), identity.Principal{}, "Alice", "")
		kind(t, err, errs.Conflict)
		w.backed(t, "acme", "pulumi", "", "")
		for login, want := range map[string]errs.Kind{"bob": errs.Conflict, "ACME": errs.Conflict, "api": errs.Invalid, "a b": errs.Invalid, "": errs.Invalid} {
			kind(t, w.RenameUser(t.Context(), alice, alice.UserID, login), want)
		}
		ok(t, w.RenameUser(t.Context(), alice, alice.UserID, "ALICE"))
		ok(t, w.RenameUser(t.Context(), alice, alice.UserID, "alicia"))
		// Names cannot be used up.
		var failed error
		for i := range 30 {
			if failed = w.RenameUser(t.Context(), alice, alice.UserID, fmt.Sprint("name-", i)); failed != nil {
				break
			}
		}
		kind(t, failed, errs.Conflict)
		ok(t, w.RenameUser(t.Context(), alice, alice.UserID, "alice"))
		kind(t, w.RenameUser(t.Context(), alice, "nobody", "free"), errs.NotFound)
	})
}

// SES-05: nothing of a deleted account works any more.
func TestDeleteUser(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		acme := w.backed(t, "acme", "pulumi", "", "")
		alice, bob := w.newUser(t, "alice"), w.newUser(t, "bob")
		w.member(t, acme, alice.ID, identity.RoleAdmin, "")
		w.mapped(t, acme, "ops", "", "")
		w.exec(t, "INSERT INTO team_members (team_id, user_id, role, created) VALUES (?, ?, 'member', 1)", acme.ID+"ops", alice.ID)
		w.exec(t, "UPDATE organizations SET break_glass = ? WHERE id = ?", alice.ID, acme.ID)
		p := w.fresh(t, alice)
		secret, _, err := w.CreateSession(t.Context(), alice.ID, "email")
		ok(t, err)
		_, token, err := w.CreateToken(t.Context(), p, identity.TokenRequest{Description: "secret plans"})
		ok(t, err)

		w.member(t, acme, bob.ID, identity.RoleMember, "")
		kind(t, w.DeleteUser(t.Context(), p, alice.ID), errs.Conflict)
		carol := w.newUser(t, "carol")
		w.member(t, acme, carol.ID, identity.RoleAdmin, "")
		ok(t, w.Disable(t.Context(), identity.Principal{}, carol.ID))
		kind(t, w.DeleteUser(t.Context(), p, alice.ID), errs.Conflict)
		ok(t, w.Enable(t.Context(), identity.Principal{}, carol.ID))
		ok(t, w.SetSiteAdmin(t.Context(), identity.Principal{}, alice.ID, true))
		kind(t, w.DeleteUser(t.Context(), p, alice.ID), errs.Conflict)
		ok(t, w.SetSiteAdmin(t.Context(), identity.Principal{}, bob.ID, true))
		var heard []string
		w.OnChange(func(id string) { heard = append(heard, id) })
		w.audit.take()
		ok(t, w.DeleteUser(t.Context(), p, alice.ID))
		if got, want := w.audit.take(), []string{"member-removed user:alice", "user-deleted user:alice"}; !slices.Equal(got, want) || !slices.Equal(heard, []string{acme.ID}) {
			t.Errorf("recorded %v, heard %v", got, heard)
		}
		_, err = w.AuthenticateSession(t.Context(), secret)
		reason(t, err, identity.SessionUnknown)
		_, err = w.AuthenticateToken(t.Context(), token)
		reason(t, err, identity.UserDisabled)
		_, err = w.User(t.Context(), alice.ID)
		kind(t, err, errs.NotFound)
		_, err = w.UserByLogin(t.Context(), "alice")
		kind(t, err, errs.NotFound)
		_, err = w.UserByEmail(t.Context(), "alice@example.com")
		kind(t, err, errs.NotFound)
		_, _, err = w.CreateSession(t.Context(), alice.ID, "email")
		kind(t, err, errs.NotFound)
		kind(t, w.DeleteUser(t.Context(), p, alice.ID), errs.NotFound)
		kind(t, w.Enable(t.Context(), identity.Principal{}, alice.ID), errs.NotFound)
		kind(t, w.RenameUser(t.Context(), p, alice.ID, "other"), errs.NotFound)
		_, err = w.CreateUser(t.Context(), identity.Principal{}, identity.NewUser{Login: "alice"})
		kind(t, err, errs.Conflict)
		if got := w.roles(t, acme) + w.teams(t, acme); strings.Contains(got, "alice") {
			t.Errorf("in acme are %s", got)
		}
		if rest := withoutAudit(dump(t, w.db)); strings.Contains(rest, "alice@example.com") || strings.Contains(rest, "secret plans") || strings.Contains(rest, "break_glass="+alice.ID) {
			t.Error("something of the account is left")
		}
		// The last member of an organization may go.
		alone := w.backed(t, "alone", "pulumi", "", "")
		dave := w.newUser(t, "dave")
		w.member(t, alone, dave.ID, identity.RoleAdmin, "")
		ok(t, w.DeleteUser(t.Context(), identity.Principal{}, dave.ID))
	})
}

func TestSetSiteAdmin(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice, bob := w.newUser(t, "alice"), w.newUser(t, "bob")
		secret, _, err := w.CreateSession(t.Context(), alice.ID, "email")
		ok(t, err)
		w.audit.take()
		for _, u := range []identity.User{alice, bob, bob} {
			ok(t, w.SetSiteAdmin(t.Context(), identity.Principal{}, u.ID, true))
		}
		if p, err := w.AuthenticateSession(t.Context(), secret); err != nil || !p.SiteAdmin {
			t.Errorf("%+v, %v", p, err)
		}
		if got := w.audit.take(); len(got) != 2 || got[0] != "user-site-administrator-changed user:alice" {
			t.Errorf("recorded %v", got)
		}
		// Of two who go at the same moment one stays.
		var group sync.WaitGroup
		for _, u := range []identity.User{alice, bob} {
			group.Go(func() {
				if err := w.SetSiteAdmin(context.Background(), identity.Principal{}, u.ID, false); err != nil && errs.KindOf(err) != errs.Conflict {
					t.Error(err)
				}
			})
		}
		group.Wait()
		users, _, err := w.Users(t.Context(), identity.UserQuery{})
		if err != nil || users[0].SiteAdmin == users[1].SiteAdmin {
			t.Errorf("%+v, %v", users, err)
		}
	})
}

func TestUsers(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for _, login := range []string{"Bob", "alice", "a_b", "axb", "zoe", "Carol"} {
			w.newUser(t, login)
		}
		gone := w.newUser(t, "gone")
		ok(t, w.DeleteUser(t.Context(), identity.Principal{}, gone.ID))
		name := "100% Smith!"
		u, err := w.UserByLogin(t.Context(), "zoe")
		ok(t, err)
		ok(t, w.UpdateProfile(t.Context(), identity.Principal{}, u.ID, identity.Profile{Name: &name}))
		ok(t, w.RenameUser(t.Context(), identity.Principal{}, u.ID, "Aaron"))
		list := func(q identity.UserQuery) string {
			t.Helper()
			var logins []string
			for {
				users, next, err := w.Users(t.Context(), q)
				ok(t, err)
				for _, u := range users {
					logins = append(logins, u.Login)
				}
				if q.Limit > 0 && len(users) > q.Limit {
					t.Errorf("%d on a page of %d", len(users), q.Limit)
				}
				if next == "" {
					return strings.Join(logins, " ")
				}
				q.Cursor = next
			}
		}
		for _, limit := range []int{0, 1, 2, 5, 6} {
			got := list(identity.UserQuery{Limit: limit})
			// The order of "_" and letters is the database's.
			if got != "a_b Aaron alice axb Bob Carol" && got != "Aaron a_b alice axb Bob Carol" && got != "Aaron alice a_b axb Bob Carol" {
				t.Errorf("by %d: %s", limit, got)
			}
		}
		for text, want := range map[string]string{
			"ALI": "alice", "a_b": "a_b", "0% s": "Aaron", "!": "Aaron", "smith": "Aaron", "ob@example": "Bob", "nobody": "", "%": "Aaron", "' OR 1=1 --": "", "zoe": "Aaron",
		} {
			if got := list(identity.UserQuery{Text: text}); got != want {
				t.Errorf("%q finds %s, want %s", text, got, want)
			}
		}
		_, _, err = w.Users(t.Context(), identity.UserQuery{Cursor: "?"})
		kind(t, err, errs.Invalid)
	})
}
