package identity

import (
	"context"
	"time"

	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
)

func errNoInvite() error {
	return errs.Errorf(errs.NotFound, "this invite is not valid, or not any more: ask for a new one")
}

// InvitesTo returns the invites to a user's verified address that the user can still
// accept.
func (d *Directory) InvitesTo(ctx context.Context, userID string) ([]Invite, error) {
	user, err := d.store.account(ctx, userID)
	if err != nil {
		return nil, err
	}
	if user.verified() == "" || user.ManagedBy != "" {
		return nil, nil
	}
	now, err := d.store.clock(ctx)
	if err != nil {
		return nil, err
	}
	rows, organizations, err := d.store.invitesTo(ctx, user, now)
	if err != nil {
		return nil, err
	}
	invites, err := d.invites(ctx, rows, organizations, now)
	for i := range invites {
		invites[i] = invites[i].outside()
		invites[i].Email = user.Email
	}
	return invites, err
}

// verified returns the address that somebody has vouched for, or "".
func (a account) verified() string {
	if !a.EmailVerified {
		return ""
	}
	return a.Email
}

// InviteBySecret returns the invite of a link that can still be used; errs.NotFound for
// any other. It is what somebody who is not signed in may see: the organization's
// name, the role, who sent it.
func (d *Directory) InviteBySecret(ctx context.Context, secret string) (Invite, error) {
	hash, ok := parseInvite(secret)
	if !ok {
		return Invite{}, errNoInvite()
	}
	row, err := d.store.inviteByHash(ctx, hash)
	if err != nil {
		return Invite{}, err
	}
	now, err := d.store.clock(ctx)
	if err != nil {
		return Invite{}, err
	}
	if !row.open(now) {
		return Invite{}, errNoInvite()
	}
	o, err := d.store.organization(ctx, row.OrganizationID)
	if err != nil {
		return Invite{}, hideOrganization(err)
	}
	invites, err := d.invites(ctx, []inviteRow{row}, map[string]Organization{o.ID: o}, now)
	if err != nil {
		return Invite{}, err
	}
	return invites[0].outside(), nil
}

// hideOrganization says of an organization that is not there that the invite is not.
func hideOrganization(err error) error {
	if errs.KindOf(err) == errs.NotFound {
		return errNoInvite()
	}
	return err
}

// outside returns what somebody who is no member may see of an invite. The address
// is not in it: who has the link need not be who it was sent to.
func (i Invite) outside() Invite {
	return Invite{
		ID: i.ID, Role: i.Role, Created: i.Created, Expires: i.Expires, Status: i.Status,
		Organization: Organization{ID: i.Organization.ID, Login: i.Organization.Login, Name: i.Organization.Name},
		SentBy:       User{Login: i.SentBy.Login, Name: i.SentBy.Name, AvatarURL: i.SentBy.AvatarURL},
	}
}

// AcceptInvite makes p a member, once. An invite to another address than p's verified
// one waits for approval (status InviteApproval, no error), and until then whoever
// has the address can still accept it. A member already is errs.Conflict; an account
// that another organization manages errs.Forbidden.
func (d *Directory) AcceptInvite(ctx context.Context, p Principal, secret string) (Invite, error) {
	hash, ok := parseInvite(secret)
	if !ok {
		return Invite{}, errNoInvite()
	}
	return d.accept(ctx, p, func(ctx context.Context, _ account) (inviteRow, error) {
		return d.store.inviteByHash(ctx, hash)
	})
}

// AcceptInviteTo is AcceptInvite for one of InvitesTo, by its ID.
func (d *Directory) AcceptInviteTo(ctx context.Context, p Principal, id string) (Invite, error) {
	return d.accept(ctx, p, func(ctx context.Context, user account) (inviteRow, error) {
		row, err := d.store.inviteByID(ctx, id)
		if err == nil && (row.Email == "" || row.Email != user.verified()) {
			return row, errNoInvite()
		}
		return row, err
	})
}

func (d *Directory) accept(ctx context.Context, p Principal, find func(context.Context, account) (inviteRow, error)) (Invite, error) {
	var invite Invite
	err := d.db.Tx(ctx, func(ctx context.Context) error {
		user, err := d.store.account(ctx, p.UserID)
		if err != nil {
			return err
		}
		row, err := find(ctx, user)
		if err != nil {
			return err
		}
		o, err := d.store.lockOrganization(ctx, row.OrganizationID)
		if err != nil {
			return hideOrganization(err)
		}
		// What was read before the lock may have changed: another has accepted it, or
		// it was renewed.
		if row, err = find(ctx, user); err != nil {
			return err
		}
		now, err := d.store.clock(ctx)
		if err != nil {
			return err
		}
		if row, err = d.acceptRow(ctx, p, user, o, row, now); err != nil {
			return err
		}
		out, err := d.invites(ctx, []inviteRow{row}, map[string]Organization{o.ID: o}, now)
		if err != nil {
			return err
		}
		invite = out[0]
		if invite.Status != InviteAccepted {
			invite = invite.outside()
		}
		return nil
	})
	if err != nil {
		return Invite{}, err
	}
	return invite, nil
}

func (d *Directory) acceptRow(ctx context.Context, p Principal, user account, o Organization, row inviteRow, now time.Time) (inviteRow, error) {
	addressed := row.Email == "" || row.Email == user.verified()
	waits := row.Status == string(InviteApproval)
	if !row.open(now) || waits && !addressed && row.UserID != user.ID {
		return row, errNoInvite()
	}
	if user.Disabled != 0 {
		return row, errs.Errorf(errs.Forbidden, "the account %s is disabled", user.Login)
	}
	if err := user.mayJoin(o, errs.Forbidden); err != nil {
		return row, err
	}
	if err := d.refuseMember(ctx, o, user.ID); err != nil {
		return row, err
	}
	if !addressed {
		if waits {
			return row, nil
		}
		row, err := d.decide(ctx, row, InviteApproval, user.ID, now)
		if err != nil {
			return row, err
		}
		return row, d.recordInvite(ctx, p, o, row, "organization-invite-approval-requested",
			user.Login+" asked to use the invite of "+row.to()+" to organization "+o.Login)
	}
	row, err := d.decide(ctx, row, InviteAccepted, user.ID, now)
	if err != nil {
		return row, err
	}
	if err := d.recordInvite(ctx, p, o, row, "organization-invite-accepted", user.Login+" accepted the invite to organization "+o.Login); err != nil {
		return row, err
	}
	d.changed(ctx, o.ID)
	return row, d.addMember(ctx, p, o, user.ID, user.Login, Role(row.Role), now)
}

func (d *Directory) refuseMember(ctx context.Context, o Organization, userID string) error {
	_, err := d.store.role(ctx, o.ID, userID)
	switch {
	case err == nil:
		return errs.Errorf(errs.Conflict, "that user is a member of the organization already")
	case errs.KindOf(err) == errs.NotFound:
		return nil
	}
	return err
}

// ApproveInvite lets in who waits for it. An invite that nobody waits for is
// errs.Conflict, as is an account that cannot become a member any more.
func (d *Directory) ApproveInvite(ctx context.Context, actor Principal, organizationID, id string) (Invite, error) {
	return d.changeInvites(ctx, organizationID, func(ctx context.Context, o Organization, now time.Time) (inviteRow, error) {
		row, err := d.store.invite(ctx, o.ID, id)
		if err != nil {
			return row, err
		}
		if row.Status != string(InviteApproval) {
			return row, errs.Errorf(errs.Conflict, "nobody waits for that invite to be approved")
		}
		user, err := d.store.account(ctx, row.UserID)
		if err != nil {
			return row, err
		}
		if user.Disabled != 0 {
			return row, errs.Errorf(errs.Conflict, "the account %s is disabled", user.Login)
		}
		if row, err = d.decide(ctx, row, InviteAccepted, user.ID, now); err != nil {
			return row, err
		}
		err = d.recordInvite(ctx, actor, o, row, "organization-invite-approved",
			"Let "+user.Login+" use the invite of "+row.to()+" to organization "+o.Login)
		if err != nil {
			return row, err
		}
		d.changed(ctx, o.ID)
		return row, d.addMember(ctx, actor, o, user.ID, user.Login, Role(row.Role), now)
	})
}

// open reports whether an invite can still lead to a membership.
func (r inviteRow) open(now time.Time) bool {
	return (r.Status == string(InvitePending) || r.Status == string(InviteApproval)) && r.Expires > database.Micros(now)
}
