package identity_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
)

// verified makes a user with a verified address LOGIN@example.com.
func (w *world) verified(t testing.TB, login string) identity.Principal {
	t.Helper()
	p := w.user(t, login)
	w.exec(t, "UPDATE users SET email_verified = ? WHERE id = ?", true, p.UserID)
	return p
}

func (w *world) invite(t testing.TB, actor identity.Principal, o identity.Organization, email string) (identity.Invite, string) {
	t.Helper()
	invite, secret, err := w.CreateInvite(t.Context(), actor, o.ID, email, identity.RoleMember)
	ok(t, err)
	return invite, secret
}

func (w *world) invites(t testing.TB, o identity.Organization) []string {
	t.Helper()
	invites, _, err := w.Invites(t.Context(), o.ID, "", 0)
	ok(t, err)
	var out []string
	for _, i := range invites {
		out = append(out, strings.TrimSpace(fmt.Sprint(i.Email, " ", i.Status, " ", i.By.Login)))
	}
	return out
}

func TestInvite(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice, bob := w.user(t, "alice"), w.verified(t, "bob")
		o := w.organization(t, alice, "acme")
		heard := 0
		w.OnChange(func(id string) { heard++ })
		w.audit.take()
		invite, secret := w.invite(t, alice, o, "BOB@example.com")
		if invite.Email != "bob@example.com" || invite.Status != identity.InvitePending || invite.SentBy.Login != "alice" ||
			!invite.Expires.Equal(w.clock.now().Add(identity.InviteLife)) || invite.Organization != o || invite.Role != identity.RoleMember {
			t.Errorf("the invite is %+v", invite)
		}
		seen, err := w.InviteBySecret(t.Context(), secret)
		ok(t, err)
		want := identity.Invite{
			ID: invite.ID, Role: identity.RoleMember, Created: invite.Created, Expires: invite.Expires, Status: identity.InvitePending,
			Organization: identity.Organization{ID: o.ID, Login: "acme", Name: "acme"}, SentBy: identity.User{Login: "alice", Name: "alice"},
		}
		if seen != want {
			t.Errorf("anybody with the link sees %+v", seen)
		}
		to, err := w.InvitesTo(t.Context(), bob.UserID)
		ok(t, err)
		if len(to) != 1 || to[0].ID != invite.ID || to[0].SentBy.Email != "" {
			t.Errorf("invites to bob are %+v", to)
		}
		accepted, err := w.AcceptInvite(t.Context(), bob, secret)
		ok(t, err)
		if accepted.Status != identity.InviteAccepted || accepted.By.Login != "bob" || accepted.Organization != o || heard != 1 {
			t.Errorf("accepted %+v, heard %d changes", accepted, heard)
		}
		memberships, err := w.Organizations(t.Context(), bob.UserID)
		ok(t, err)
		if len(memberships) != 1 || memberships[0].Role != identity.RoleMember {
			t.Errorf("memberships are %+v", memberships)
		}
		_, err = w.AcceptInvite(t.Context(), bob, secret)
		kind(t, err, errs.NotFound)
		_, err = w.InviteBySecret(t.Context(), secret)
		kind(t, err, errs.NotFound)
		_, again := w.invite(t, alice, o, "bob@example.com")
		_, err = w.AcceptInvite(t.Context(), bob, again)
		kind(t, err, errs.Conflict)
		want2 := []string{"organization-invite-sent invite:" + invite.ID, "organization-invite-accepted invite:" + invite.ID, "member-added user:bob"}
		if events := w.audit.take(); !slices.Equal(events[:3], want2) || len(events) != 4 {
			t.Errorf("recorded %v", events)
		}
		kind(t, w.CancelInvite(t.Context(), alice, o.ID, invite.ID), errs.Conflict)
		_, _, err = w.RenewInvite(t.Context(), alice, o.ID, invite.ID)
		kind(t, err, errs.Conflict)
		_, err = w.ApproveInvite(t.Context(), alice, o.ID, invite.ID)
		kind(t, err, errs.Conflict)
		// The secret is nowhere but with whom it was given to.
		all := dump(t, w.db) + fmt.Sprintf("%+v", w.audit.entries)
		if strings.Contains(all, secret) || strings.Contains(all, secret[4:47]) || !strings.Contains(all, "bob@example.com") {
			t.Error("the secret is stored, or the search looks in the wrong place")
		}
	})
}

// An invite ends in a membership for nobody but who may have it.
func TestInviteRefused(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice, bob, eve := w.user(t, "alice"), w.verified(t, "bob"), w.verified(t, "eve")
		o, other := w.organization(t, alice, "acme"), w.organization(t, alice, "other")
		type scene struct {
			invite identity.Invite
			secret string
		}
		for name, c := range map[string]struct {
			email string
			do    func(s *scene)
			as    identity.Principal
			want  errs.Kind
		}{
			"expired": {"", func(*scene) { w.clock.advance(identity.InviteLife) }, bob, errs.NotFound},
			"canceled": {"", func(s *scene) {
				ok(t, w.CancelInvite(t.Context(), alice, o.ID, s.invite.ID))
				ok(t, w.CancelInvite(t.Context(), alice, o.ID, s.invite.ID))
			}, bob, errs.NotFound},
			"renewed":  {"", func(s *scene) { _, _, err := w.RenewInvite(t.Context(), alice, o.ID, s.invite.ID); ok(t, err) }, bob, errs.NotFound},
			"replaced": {"bob@example.com", func(s *scene) { w.invite(t, alice, o, "Bob@example.com") }, bob, errs.NotFound},
			"one character off": {"", func(s *scene) {
				last := s.secret[40]
				s.secret = s.secret[:40] + string(map[bool]byte{true: 'b', false: 'a'}[last == 'a']) + s.secret[41:]
			}, bob, errs.NotFound},
			"empty":          {"", func(s *scene) { s.secret = "" }, bob, errs.NotFound},
			"a line more":    {"", func(s *scene) { s.secret += "\n" }, bob, errs.NotFound},
			"its public ID":  {"", func(s *scene) { s.secret = s.invite.ID }, bob, errs.NotFound},
			"nobody":         {"", func(*scene) {}, identity.Principal{}, errs.NotFound},
			"disabled":       {"", func(*scene) { ok(t, w.Disable(t.Context(), alice, eve.UserID)) }, eve, errs.Forbidden},
			"a member":       {"", func(*scene) {}, alice, errs.Conflict},
			"used by others": {"", func(s *scene) { _, err := w.AcceptInvite(t.Context(), w.user(t, "zed"), s.secret); ok(t, err) }, bob, errs.NotFound},
		} {
			invite, secret := w.invite(t, alice, o, c.email)
			s := &scene{invite, secret}
			c.do(s)
			_, err := w.AcceptInvite(t.Context(), c.as, s.secret)
			if err == nil || errs.KindOf(err) != c.want {
				t.Errorf("%s: %v", name, err)
			}
		}
		if memberships, err := w.Organizations(t.Context(), bob.UserID); err != nil || len(memberships) != 0 {
			t.Errorf("bob got into %v, %v", memberships, err)
		}
		// Administrators of another organization have no hand in it.
		invite, _ := w.invite(t, alice, o, "")
		_, _, err := w.RenewInvite(t.Context(), alice, other.ID, invite.ID)
		kind(t, err, errs.NotFound)
		kind(t, w.CancelInvite(t.Context(), alice, other.ID, invite.ID), errs.NotFound)
		_, err = w.ApproveInvite(t.Context(), alice, other.ID, invite.ID)
		kind(t, err, errs.NotFound)
		// A link for anybody is not to be had by its public ID.
		_, err = w.AcceptInviteTo(t.Context(), bob, invite.ID)
		kind(t, err, errs.NotFound)
		for _, wrong := range []string{"x", "a@b@example.com", "bob@example.com\r\nBcc: x@example.com"} {
			_, _, err = w.CreateInvite(t.Context(), alice, o.ID, wrong, identity.RoleMember)
			kind(t, err, errs.Invalid)
		}
		_, _, err = w.CreateInvite(t.Context(), alice, o.ID, "", "owner")
		kind(t, err, errs.Invalid)
	})
}

func TestForwardedInviteWaitsForApproval(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice, eve := w.user(t, "alice"), w.verified(t, "eve")
		mallory := w.verified(t, "mallory")
		o := w.organization(t, alice, "acme")
		// The address is right and nobody has verified it.
		unverified := w.user(t, "bob")
		for _, p := range []identity.Principal{eve, unverified} {
			invite, secret := w.invite(t, alice, o, "bob@example.com")
			waiting, err := w.AcceptInvite(t.Context(), p, secret)
			if err != nil || waiting.Status != identity.InviteApproval || waiting.Email != "" {
				t.Fatalf("%s: %+v, %v", p.Login, waiting, err)
			}
			waiting, err = w.AcceptInvite(t.Context(), p, secret) // asked once
			if err != nil || waiting.Status != identity.InviteApproval {
				t.Errorf("%+v, %v", waiting, err)
			}
			_, err = w.AcceptInvite(t.Context(), mallory, secret)
			kind(t, err, errs.NotFound)
			_, err = w.AcceptInviteTo(t.Context(), p, invite.ID)
			kind(t, err, errs.NotFound)
			if memberships, err := w.Organizations(t.Context(), p.UserID); err != nil || len(memberships) != 0 {
				t.Errorf("%s is in %v, %v", p.Login, memberships, err)
			}
			_, _, err = w.RenewInvite(t.Context(), alice, o.ID, invite.ID)
			kind(t, err, errs.Conflict)
			w.audit.take()
			approved, err := w.ApproveInvite(t.Context(), alice, o.ID, invite.ID)
			if err != nil || approved.Status != identity.InviteAccepted || approved.By.Login != p.Login {
				t.Fatalf("%+v, %v", approved, err)
			}
			if events := w.audit.take(); !slices.Equal(events, []string{"organization-invite-approved invite:" + invite.ID, "member-added user:" + p.Login}) {
				t.Errorf("recorded %v", events)
			}
			_, err = w.ApproveInvite(t.Context(), alice, o.ID, invite.ID)
			kind(t, err, errs.Conflict)
			ok(t, w.RemoveMember(t.Context(), alice, o.ID, p.Login))
		}
		// Whoever the invite was for is not shut out by somebody who came first.
		invite, secret := w.invite(t, alice, o, "bob@example.com")
		_, err := w.AcceptInvite(t.Context(), eve, secret)
		ok(t, err)
		w.exec(t, "UPDATE users SET email_verified = ? WHERE id = ?", true, unverified.UserID)
		if to, err := w.InvitesTo(t.Context(), unverified.UserID); err != nil || len(to) != 1 {
			t.Errorf("invites are %v, %v", to, err)
		}
		got, err := w.AcceptInviteTo(t.Context(), unverified, invite.ID)
		if err != nil || got.Status != identity.InviteAccepted || got.By.Login != "bob" {
			t.Errorf("%+v, %v", got, err)
		}
		// Approval does not get around what becoming a member needs.
		for _, obstacle := range []string{"UPDATE users SET managed_by = 'x' WHERE id = ?", "UPDATE users SET managed_by = '', disabled = 1 WHERE id = ?"} {
			invite, secret := w.invite(t, alice, o, "carol@example.com")
			w.exec(t, "UPDATE users SET managed_by = '', disabled = 0 WHERE id = ?", eve.UserID)
			_, err = w.AcceptInvite(t.Context(), eve, secret)
			ok(t, err)
			w.exec(t, obstacle, eve.UserID)
			_, err = w.ApproveInvite(t.Context(), alice, o.ID, invite.ID)
			kind(t, err, errs.Conflict)
			ok(t, w.CancelInvite(t.Context(), alice, o.ID, invite.ID))
			w.exec(t, "UPDATE users SET managed_by = '', disabled = 0 WHERE id = ?", eve.UserID)
			_, err = w.ApproveInvite(t.Context(), alice, o.ID, invite.ID) // it is canceled
			kind(t, err, errs.Conflict)
		}
	})
}

func TestInviteIsUsedOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice := w.user(t, "alice")
		var people []identity.Principal
		for i := range 20 {
			people = append(people, w.user(t, fmt.Sprint("user", i)))
		}
		for round := range 3 {
			o := w.organization(t, alice, fmt.Sprint("acme", round))
			_, secret := w.invite(t, alice, o, "")
			failed := make([]error, len(people))
			var group sync.WaitGroup
			for i, p := range people {
				group.Go(func() { _, failed[i] = w.AcceptInvite(t.Context(), p, secret) })
			}
			group.Wait()
			won := 0
			for _, err := range failed {
				if err == nil {
					won++
				} else if errs.KindOf(err) != errs.NotFound {
					t.Error(err)
				}
			}
			roster, err := w.MembersOf(t.Context(), o.ID)
			ok(t, err)
			if won != 1 || len(roster.Roles) != 2 {
				t.Errorf("%d have used it, %d are members", won, len(roster.Roles))
			}
		}
	})
}

// The answer to an invite says nothing about accounts.
func TestInviteDoesNotTellWhoHasAnAccount(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice := w.user(t, "alice")
		w.verified(t, "bob")
		o := w.organization(t, alice, "acme")
		w.verified(t, "carol")
		_, err := w.AddMember(t.Context(), alice, o.ID, "carol", identity.RoleMember)
		ok(t, err)
		managed := w.verified(t, "managed")
		w.exec(t, "UPDATE users SET managed_by = 'x' WHERE id = ?", managed.UserID)
		var answers []string
		for _, login := range []string{"nobody", "bob", "carol", "managed"} {
			w.audit.take()
			invite, _ := w.invite(t, alice, o, login+"@example.com")
			list, _, err := w.Invites(t.Context(), o.ID, "", 0)
			ok(t, err)
			ok(t, w.CancelInvite(t.Context(), alice, o.ID, invite.ID))
			text := fmt.Sprintf("%+v %+v %v", invite, list[0], w.audit.take())
			for _, own := range []string{invite.ID, login + "@"} {
				text = strings.ReplaceAll(text, own, "")
			}
			answers = append(answers, text)
			w.exec(t, "DELETE FROM invites")
		}
		if len(slices.Compact(answers)) != 1 {
			t.Errorf("the answers differ:\n%s", strings.Join(answers, "\n"))
		}
	})
}

func TestInvitesOfAnOrganization(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice, bob := w.user(t, "alice"), w.user(t, "bob")
		o := w.organization(t, alice, "acme")
		invite, _ := w.invite(t, alice, o, "a@example.com")
		w.clock.advance(time.Minute)
		canceled, _ := w.invite(t, alice, o, "b@example.com")
		ok(t, w.CancelInvite(t.Context(), alice, o.ID, canceled.ID))
		w.clock.advance(time.Minute)
		_, secret := w.invite(t, alice, o, "")
		_, err := w.AcceptInvite(t.Context(), bob, secret)
		ok(t, err)
		if got, want := w.invites(t, o), []string{"accepted bob", "b@example.com canceled", "a@example.com pending"}; !slices.Equal(got, want) {
			t.Errorf("invites are %q", got)
		}
		w.clock.advance(31 * 24 * time.Hour)
		if got, want := w.invites(t, o), []string{"a@example.com expired"}; !slices.Equal(got, want) {
			t.Errorf("invites are %q", got)
		}
		_, renewed, err := w.RenewInvite(t.Context(), alice, o.ID, invite.ID)
		ok(t, err)
		if _, err := w.InviteBySecret(t.Context(), renewed); err != nil {
			t.Error(err)
		}
		if got, want := w.invites(t, o), []string{"a@example.com pending"}; !slices.Equal(got, want) {
			t.Errorf("invites are %q", got)
		}
		for range 4 {
			w.invite(t, alice, o, "") // at one moment: the order is by ID then
		}
		seen := map[string]bool{}
		for cursor, more := "", true; more; more = cursor != "" {
			page, next, err := w.Invites(t.Context(), o.ID, cursor, 2)
			ok(t, err)
			for _, i := range page {
				seen[i.ID] = true
			}
			cursor = next
		}
		if len(seen) != 5 {
			t.Errorf("%d invites on all pages", len(seen))
		}
		_, _, err = w.Invites(t.Context(), o.ID, "eA", 2)
		kind(t, err, errs.Invalid)
	})
}

func TestInvitesAreBounded(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		alice := w.user(t, "alice")
		o := w.organization(t, alice, "acme")
		old, _ := w.invite(t, alice, o, "")
		w.clock.advance(identity.InviteLife)
		for i := range 999 {
			w.exec(t, `INSERT INTO invites (id, organization_id, email, role, hash, sent_by, created, expires, status, user_id, decided)
				VALUES (?, ?, '', 'member', ?, '', 1, ?, 'pending', '', 0)`, fmt.Sprint("i", i), o.ID, []byte(fmt.Sprint(i)), w.clock.now().Add(time.Hour).UnixMicro())
		}
		_, secret := w.invite(t, alice, o, "x@example.com")
		_, _, err := w.CreateInvite(t.Context(), alice, o.ID, "", identity.RoleMember)
		kind(t, err, errs.Exhausted)
		_, _, err = w.RenewInvite(t.Context(), alice, o.ID, old.ID)
		kind(t, err, errs.Exhausted)
		w.invite(t, alice, o, "x@example.com") // in the place of the one before
		_, err = w.InviteBySecret(t.Context(), secret)
		kind(t, err, errs.NotFound)
	})
}
