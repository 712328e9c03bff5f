package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"math/big"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/ipuka/ipuka/audit"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
)

// InviteStatus is what has become of an invite.
type InviteStatus string

// The statuses.
const (
	InvitePending  InviteStatus = "pending"
	InviteApproval InviteStatus = "approval" // somebody with another address wants to use it
	InviteAccepted InviteStatus = "accepted"
	InviteCanceled InviteStatus = "canceled"
	InviteExpired  InviteStatus = "expired"
)

// Invite asks somebody to become a member.
type Invite struct {
	ID               string // public
	Organization     Organization
	Email            string // "" for a link that whoever holds it may use
	Role             Role
	SentBy           User
	Created, Expires time.Time
	Status           InviteStatus
	By               User // who accepted it, or waits for approval
}

// InviteLife is how long an invite is good for unless it says otherwise.
const InviteLife = 7 * 24 * time.Hour

// maxInvites bounds the invites of an organization that are pending or wait for approval.
const maxInvites = 1000

// inviteShown is how long an invite is listed that was accepted or canceled.
const inviteShown = 30 * 24 * time.Hour

// The form of an invite's secret is that of a token, with another prefix.
const invitePrefix = "ipi_"

func newInviteSecret() string {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails: crypto/rand ends the program first
	text := invitePrefix + encode62(new(big.Int).SetBytes(raw), tokenBody)
	return text + checksum(text)
}

// parseInvite returns the hash under which a secret would be stored.
func parseInvite(secret string) (hash []byte, ok bool) {
	if len(secret) != len(invitePrefix)+tokenBody+tokenChecksum || !strings.HasPrefix(secret, invitePrefix) {
		return nil, false
	}
	text := secret[:len(secret)-tokenChecksum]
	if secret[len(text):] != checksum(text) {
		return nil, false
	}
	sum := sha256.Sum256([]byte(secret))
	return sum[:], true
}

// CreateInvite makes an invite, for one address or, with "", for one person who has
// the link, and returns the secret of its link, which is not to be had again. An
// invite to the same address that is still pending is replaced. The answer is the
// same whether anybody has an account with that address, or is a member. More than
// 1,000 invites at a time are errs.Exhausted.
func (d *Directory) CreateInvite(ctx context.Context, actor Principal, organizationID, email string, role Role) (Invite, string, error) {
	if err := role.check(); err != nil {
		return Invite{}, "", err
	}
	if email != "" {
		canonical, err := CanonicalEmail(email)
		if err != nil {
			return Invite{}, "", err
		}
		email = canonical
	}
	secret := newInviteSecret()
	hash, _ := parseInvite(secret)
	id := uuid.NewString()
	invite, err := d.changeInvites(ctx, organizationID, func(ctx context.Context, o Organization, now time.Time) (inviteRow, error) {
		row := inviteRow{
			ID: id, OrganizationID: o.ID, Email: email, Role: string(role), Hash: hash, SentBy: actor.UserID,
			Created: database.Micros(now), Expires: database.Micros(now.Add(InviteLife)), Status: string(InvitePending),
		}
		if email != "" {
			if err := d.store.deletePendingInvites(ctx, o.ID, email); err != nil {
				return row, err
			}
		}
		if err := d.checkInvites(ctx, o, now); err != nil {
			return row, err
		}
		if err := d.store.insertInvite(ctx, row); err != nil {
			return row, err
		}
		return row, d.recordInvite(ctx, actor, o, row, "organization-invite-sent", "Invited "+row.to()+" to organization "+o.Login)
	})
	if err != nil {
		return Invite{}, "", err
	}
	return invite, secret, nil
}

func (d *Directory) checkInvites(ctx context.Context, o Organization, now time.Time) error {
	n, err := d.store.countInvites(ctx, o.ID, now)
	if err == nil && n >= maxInvites {
		return errs.Errorf(errs.Exhausted, "organization %s has %d open invites, cancel some first", o.Login, n)
	}
	return err
}

// changeInvites runs change in a transaction that has the organization for itself,
// and returns the invite that it left.
func (d *Directory) changeInvites(ctx context.Context, organizationID string, change func(ctx context.Context, o Organization, now time.Time) (inviteRow, error)) (Invite, error) {
	var invite Invite
	err := d.db.Tx(ctx, func(ctx context.Context) error {
		o, err := d.store.lockOrganization(ctx, organizationID)
		if err != nil {
			return err
		}
		now, err := d.store.clock(ctx)
		if err != nil {
			return err
		}
		row, err := change(ctx, o, now)
		if err != nil {
			return err
		}
		out, err := d.invites(ctx, []inviteRow{row}, map[string]Organization{o.ID: o}, now)
		if err != nil {
			return err
		}
		invite = out[0]
		return nil
	})
	if err != nil {
		return Invite{}, err
	}
	return invite, nil
}

func (d *Directory) recordInvite(ctx context.Context, actor Principal, o Organization, row inviteRow, name, description string) error {
	return d.record(ctx, o.ID, actor.Did(audit.Event{
		Name: name, Object: "invite:" + row.ID, Description: description,
		Details: facts("email", row.Email, "role", row.Role, "user", row.UserID, "expires", stamp(database.Time(row.Expires))),
	}))
}

// RenewInvite gives a pending or expired invite a new secret and a new life. The
// secret before is worthless. Any other invite is errs.Conflict.
func (d *Directory) RenewInvite(ctx context.Context, actor Principal, organizationID, id string) (Invite, string, error) {
	secret := newInviteSecret()
	hash, _ := parseInvite(secret)
	invite, err := d.changeInvites(ctx, organizationID, func(ctx context.Context, o Organization, now time.Time) (inviteRow, error) {
		row, err := d.store.invite(ctx, o.ID, id)
		if err != nil {
			return row, err
		}
		if row.Status != string(InvitePending) {
			return row, errs.Errorf(errs.Conflict, "that invite is %s, send a new one", statusText(row.status(now)))
		}
		if row.Expires <= database.Micros(now) { // it did not count any more
			if err := d.checkInvites(ctx, o, now); err != nil {
				return row, err
			}
		}
		row.Hash, row.Expires = hash, database.Micros(now.Add(InviteLife))
		if err := d.store.renewInvite(ctx, row); err != nil {
			return row, err
		}
		return row, d.recordInvite(ctx, actor, o, row, "organization-invite-renewed", "Renewed the invite of "+row.to()+" to organization "+o.Login)
	})
	if err != nil {
		return Invite{}, "", err
	}
	return invite, secret, nil
}

func statusText(s InviteStatus) string {
	if s == InviteApproval {
		return "waiting for approval"
	}
	return string(s)
}

// CancelInvite makes an invite worthless. One that has been accepted is errs.Conflict.
func (d *Directory) CancelInvite(ctx context.Context, actor Principal, organizationID, id string) error {
	_, err := d.changeInvites(ctx, organizationID, func(ctx context.Context, o Organization, now time.Time) (inviteRow, error) {
		row, err := d.store.invite(ctx, o.ID, id)
		if err != nil || row.Status == string(InviteCanceled) {
			return row, err
		}
		if row.Status == string(InviteAccepted) {
			return row, errs.Errorf(errs.Conflict, "that invite has been accepted, remove the member instead")
		}
		if row, err = d.decide(ctx, row, InviteCanceled, row.UserID, now); err != nil {
			return row, err
		}
		return row, d.recordInvite(ctx, actor, o, row, "organization-invite-canceled", "Canceled the invite of "+row.to()+" to organization "+o.Login)
	})
	return err
}

// decide moves an invite on from the status that row has.
func (d *Directory) decide(ctx context.Context, row inviteRow, status InviteStatus, userID string, now time.Time) (inviteRow, error) {
	before := row.Status
	row.Status, row.UserID, row.Decided = string(status), userID, database.Micros(now)
	return row, d.store.setInviteStatus(ctx, row, before)
}

// Invites returns the invites of an organization, the newest first: those that are
// pending, wait for approval or have expired, and for 30 days the others.
func (d *Directory) Invites(ctx context.Context, organizationID, cursor string, limit int) ([]Invite, string, error) {
	after, err := decodeCursor(cursor, 2)
	if err != nil {
		return nil, "", err
	}
	o, err := d.store.organization(ctx, organizationID)
	if err != nil {
		return nil, "", err
	}
	now, err := d.store.clock(ctx)
	if err != nil {
		return nil, "", err
	}
	limit = pageSize(limit)
	rows, err := d.store.invitePage(ctx, organizationID, database.Micros(now.Add(-inviteShown)), after, limit+1)
	if err != nil {
		return nil, "", err
	}
	next := ""
	if len(rows) > limit {
		rows = rows[:limit]
		next = encodeCursor(micros(database.Time(rows[limit-1].Created)), rows[limit-1].ID)
	}
	invites, err := d.invites(ctx, rows, map[string]Organization{o.ID: o}, now)
	return invites, next, err
}

// invites fills in the people of invites of the given organizations.
func (d *Directory) invites(ctx context.Context, rows []inviteRow, organizations map[string]Organization, now time.Time) ([]Invite, error) {
	var ids []string
	asked := map[string]bool{"": true}
	for _, row := range rows {
		for _, id := range []string{row.SentBy, row.UserID} {
			if !asked[id] {
				asked[id] = true
				ids = append(ids, id)
			}
		}
	}
	users, err := d.store.usersByID(ctx, ids)
	if err != nil {
		return nil, err
	}
	out := make([]Invite, len(rows))
	for i, row := range rows {
		out[i] = Invite{
			ID: row.ID, Organization: organizations[row.OrganizationID], Email: row.Email, Role: Role(row.Role),
			SentBy: users[row.SentBy], Created: database.Time(row.Created), Expires: database.Time(row.Expires),
			Status: row.status(now), By: users[row.UserID],
		}
	}
	return out, nil
}
