package identity

import (
	"context"
	"time"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
)

// StepUpWithin is how long after signing in a session may do what is sensitive.
const StepUpWithin = 15 * time.Minute

// ErrStepUp is what [Directory.RequireFresh] returns: sign in again, and go on.
var ErrStepUp = errs.Errorf(errs.Forbidden, "sign in again first: this needs a sign-in of the last %d minutes", int(StepUpWithin.Minutes()))

// RequireFresh is [ErrStepUp] (errs.Forbidden) when p's session began longer ago than
// StepUpWithin, or p is no session.
func (d *Directory) RequireFresh(ctx context.Context, p Principal) error {
	if p.SessionID == "" {
		return ErrStepUp
	}
	now, err := d.store.clock(ctx)
	if err == nil && now.Sub(p.SignedIn) > StepUpWithin {
		return ErrStepUp
	}
	return err
}

// Link lets p's user sign in with one identity more. p must have signed in within
// [StepUpWithin] ([ErrStepUp] otherwise), and the arrival proves the other side. An
// identity of somebody else is errs.Conflict; one that the user has already is
// renewed. Accounts that an organization manages link nothing, and to an
// organization's connector only its members link (errs.Forbidden). What the identity
// is worth, memberships, teams and single sign-on, holds at once.
//
// Every error but errs.Unavailable has been recorded, as by [Directory.Refused]. Link
// is not to be called inside a transaction.
func (d *Directory) Link(ctx context.Context, p Principal, c ConnectorInfo, f Flow, x External) error {
	x, ignored, err := checkedExternal(c, x)
	if err == nil {
		err = d.insist(ctx, c, func(ctx context.Context) error {
			a := arrival{d: d, c: c, x: x, ignored: ignored}
			return a.link(ctx, p, f)
		})
	}
	if err != nil {
		return d.Refused(ctx, c, err)
	}
	return nil
}

func (a *arrival) link(ctx context.Context, p Principal, f Flow) error {
	if err := a.d.RequireFresh(ctx, p); err != nil {
		return refuseLink(err, NotFresh, p)
	}
	if err := a.begin(ctx, f); err != nil {
		return err
	}
	if err := a.findHome(ctx, true); err != nil {
		return err
	}
	var err error
	if a.user, err = a.d.store.lockUser(ctx, p.UserID); err != nil {
		return err
	}
	if err := a.mayLink(ctx, p); err != nil {
		return err
	}
	known, err := a.d.store.arrived(ctx, a.identity(), a.answer(), a.now)
	if err != nil {
		return err
	}
	if known {
		owner, err := a.d.store.identityOwner(ctx, a.identity())
		if err != nil {
			return err
		}
		if owner != a.user.ID {
			return refuseLink(errs.Errorf(errs.Conflict, "somebody else signs in with that already"), IdentityElsewhere, p)
		}
	} else {
		if added, err := a.d.store.addIdentity(ctx, a.user.ID, a.identity(), a.answer(), a.now); err != nil || !added {
			return cond(err, errRival)
		}
		e := p.Did(audit.Event{
			Name: "user-added-new-identity-to-their-account", Object: "user:" + a.user.Login,
			Description: "Added a way to sign in to user " + a.user.Login,
			After:       facts("connector", a.c.Name, "login", a.x.Login),
			Details:     facts("groups_ignored", count(a.ignored)),
		})
		a.trail.add(audit.Site, e)
		if a.home.ID != "" {
			a.trail.add(a.home.ID, e)
		}
	}
	if err := a.settle(ctx); err != nil {
		return err
	}
	return a.d.finish(ctx, a.trail)
}

// mayLink keeps two providers from owning one account: the provider of an
// organization speaks for its members only, and an account that belongs to one
// belongs to nobody else.
func (a *arrival) mayLink(ctx context.Context, p Principal) error {
	switch {
	case !a.user.Disabled.IsZero():
		return refuseLink(errs.Errorf(errs.Forbidden, "the account is disabled"), UserDisabled, p)
	case a.user.ManagedBy != "":
		return refuseLink(errs.Errorf(errs.Forbidden, "the account belongs to the identity provider of an organization and cannot sign in with anything else"), ManagedElsewhere, p)
	case a.home.ID == "":
		return nil
	}
	member, err := a.d.store.isMember(ctx, a.home.ID, a.user.ID)
	if err == nil && !member {
		err = refuseLink(errs.Errorf(errs.Forbidden, "only members of the organization link its single sign-on"), NotAMember, p)
	}
	return err
}

// refuseLink gives an error for p, who is signed in, a reason for the record.
func refuseLink(err error, reason string, p Principal) *Refusal {
	return &Refusal{Reason: reason, Claimed: p, Detail: "linking: " + errs.Public(err), public: err}
}

// Unlink takes an identity from p's user, who must have signed in within
// [StepUpWithin] ([ErrStepUp]). The last one that lets them in stays (errs.Conflict),
// and so do those of an account that an organization manages (errs.Forbidden). The
// sessions that began with its connector end, p's own maybe among them.
func (d *Directory) Unlink(ctx context.Context, p Principal, i Identity) error {
	if err := d.RequireFresh(ctx, p); err != nil {
		return err
	}
	return d.db.Tx(ctx, func(ctx context.Context) error {
		user, err := d.store.lockUser(ctx, p.UserID)
		if err != nil {
			return err
		}
		if user.ManagedBy != "" {
			return errs.Errorf(errs.Forbidden, "the account belongs to the identity provider of an organization, its identities are kept there")
		}
		now, err := d.store.clock(ctx)
		if err != nil {
			return err
		}
		rows, err := d.store.identityRows(ctx, user.ID)
		if err != nil {
			return err
		}
		if usable(rows, &i) == 0 {
			return errs.Errorf(errs.Conflict, "this is the last way to sign in, add another one first")
		}
		if found, err := d.store.deleteIdentity(ctx, user.ID, i); err != nil || !found {
			return cond(err, errs.Errorf(errs.NotFound, "there is no such way to sign in"))
		}
		ended, err := d.store.endSessionsOf(ctx, user.ID, i.Connector, now)
		if err != nil {
			return err
		}
		var t trail
		f := following{c: ConnectorInfo{Name: i.Connector}, user: user, subject: i.Subject, gone: true, now: now}
		if err := d.follow(ctx, &t, f); err != nil {
			return err
		}
		t.add(audit.Site, p.Did(audit.Event{
			Name: "user-identity-unlinked", Object: "user:" + user.Login,
			Description: "Took a way to sign in from user " + user.Login,
			Before:      facts("connector", i.Connector),
			Details:     facts("sessions_ended", count(int(ended))),
		}))
		return d.finish(ctx, t)
	})
}

// usable counts the identities that let their user in, without one.
func usable(rows []identityRow, without *Identity) int {
	n := 0
	for _, row := range rows {
		if row.Withdrawn == 0 && (without == nil || row.Connector != without.Connector || row.Subject != without.Subject) {
			n++
		}
	}
	return n
}

// MoveIdentity replaces an identity of a user by another one of the same connector:
// for package email, when an address has been confirmed. One of somebody else is
// errs.Conflict, an old one that the user has not errs.NotFound. It joins the
// transaction of ctx and records nothing: the caller does.
func (d *Directory) MoveIdentity(ctx context.Context, userID string, old Identity, subject string) error {
	if !storable(subject) {
		return errs.Errorf(errs.Invalid, "the new identity is empty or too long")
	}
	return d.db.Tx(ctx, func(ctx context.Context) error {
		if owner, err := d.store.identityOwner(ctx, Identity{Connector: old.Connector, Subject: subject}); err != nil || owner == userID {
			return err
		} else if owner != "" {
			return errs.Errorf(errs.Conflict, "another user signs in with that already")
		}
		moved, err := d.store.moveIdentity(ctx, userID, old, subject)
		if err == nil && !moved {
			err = errs.Errorf(errs.NotFound, "there is no such way to sign in")
		}
		return err
	})
}

// LinkedIdentity is an identity with what the provider shows for it.
type LinkedIdentity struct {
	Identity
	Login, Email  string
	Created, Used time.Time
	Checked       time.Time // when the provider answered last, zero: never
	Withdrawn     time.Time // since when it does not let the person in; zero while it does
	Groups        []Group
}

// LinkedIdentities returns how a user can sign in.
func (d *Directory) LinkedIdentities(ctx context.Context, userID string) ([]LinkedIdentity, error) {
	rows, err := d.store.identityRows(ctx, userID)
	if err != nil {
		return nil, err
	}
	out := make([]LinkedIdentity, len(rows))
	for i, row := range rows {
		groups, err := decodeGroups(row.Groups)
		if err != nil {
			return nil, err
		}
		out[i] = LinkedIdentity{
			Identity: Identity{Connector: row.Connector, Subject: row.Subject}, Login: row.Login, Email: row.Email,
			Created: database.Time(row.Created), Used: database.Time(row.Used),
			Checked: database.Time(row.Answered), Withdrawn: database.Time(row.Withdrawn), Groups: groups,
		}
		if row.Connector == EmailConnector && row.Email == "" {
			out[i].Email = row.Subject
		}
	}
	return out, nil
}
