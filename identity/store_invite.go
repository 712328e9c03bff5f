package identity

import (
	"context"
	"strconv"
	"time"

	"gorm.io/gorm"

	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
)

type inviteRow struct {
	ID             string
	OrganizationID string
	Email          string
	Role           string
	Hash           []byte
	SentBy         string
	Created        int64
	Expires        int64
	Status         string
	UserID         string
	Decided        int64
}

func (inviteRow) TableName() string { return "invites" }

// status is what the row has, or that its time is over.
func (r inviteRow) status(now time.Time) InviteStatus {
	if r.Status == string(InvitePending) && r.Expires <= database.Micros(now) {
		return InviteExpired
	}
	return InviteStatus(r.Status)
}

// to says whom it is for, in a sentence.
func (r inviteRow) to() string {
	if r.Email == "" {
		return "somebody with the link"
	}
	return r.Email
}

func (s store) insertInvite(ctx context.Context, row inviteRow) error {
	return gorm.G[inviteRow](s.db.Conn(ctx)).Create(ctx, &row)
}

// deletePendingInvites makes room for a new invite to the same address.
func (s store) deletePendingInvites(ctx context.Context, organizationID, email string) error {
	_, err := gorm.G[inviteRow](s.db.Conn(ctx)).
		Where("organization_id = ? AND email = ? AND status = 'pending'", organizationID, email).Delete(ctx)
	return err
}

// countInvites counts those that somebody can accept or approve.
func (s store) countInvites(ctx context.Context, organizationID string, now time.Time) (int64, error) {
	return gorm.G[inviteRow](s.db.Reader(ctx)).
		Where("organization_id = ? AND (status = 'approval' OR (status = 'pending' AND expires > ?))", organizationID, database.Micros(now)).Count(ctx, "id")
}

func (s store) invite(ctx context.Context, organizationID, id string) (inviteRow, error) {
	row, err := gorm.G[inviteRow](s.db.Reader(ctx)).Where("organization_id = ? AND id = ?", organizationID, id).Take(ctx)
	return row, missing(err, errs.Errorf(errs.NotFound, "there is no such invite"))
}

func (s store) inviteByID(ctx context.Context, id string) (inviteRow, error) {
	row, err := gorm.G[inviteRow](s.db.Reader(ctx)).Where("id = ?", id).Take(ctx)
	return row, missing(err, errNoInvite())
}

func (s store) inviteByHash(ctx context.Context, hash []byte) (inviteRow, error) {
	row, err := gorm.G[inviteRow](s.db.Reader(ctx)).Where("hash = ?", hash).Take(ctx)
	return row, missing(err, errNoInvite())
}

func (s store) renewInvite(ctx context.Context, row inviteRow) error {
	result := s.db.Conn(ctx).Exec("UPDATE invites SET hash = ?, expires = ? WHERE id = ? AND status = 'pending'", row.Hash, row.Expires, row.ID)
	if result.Error == nil && result.RowsAffected != 1 {
		return errNoInvite()
	}
	return result.Error
}

// setInviteStatus writes the decision about an invite, unless another came first.
func (s store) setInviteStatus(ctx context.Context, row inviteRow, before string) error {
	result := s.db.Conn(ctx).Exec("UPDATE invites SET status = ?, user_id = ?, decided = ? WHERE id = ? AND status = ?",
		row.Status, row.UserID, row.Decided, row.ID, before)
	if result.Error == nil && result.RowsAffected != 1 {
		return errNoInvite()
	}
	return result.Error
}

// invitePage returns invites from the newest to the oldest, after the row with the
// given keys, without those that were decided about before since.
func (s store) invitePage(ctx context.Context, organizationID string, since int64, after []string, limit int) ([]inviteRow, error) {
	query := gorm.G[inviteRow](s.db.Reader(ctx)).
		Where("organization_id = ? AND (status IN ('pending', 'approval') OR decided > ?)", organizationID, since)
	if after[1] != "" {
		created, err := strconv.ParseInt(after[0], 10, 64)
		if err != nil {
			return nil, errs.Errorf(errs.Invalid, "the continuation token is not one of this list")
		}
		query = query.Where("(created < ? OR (created = ? AND id < ?))", created, created, after[1])
	}
	return query.Order("created DESC, id DESC").Limit(limit).Find(ctx)
}

// maxInvitesTo bounds the invites that one user is shown.
const maxInvitesTo = 100

// invitesTo returns the open invites to a user's address with their organizations,
// without those that the user is a member of.
func (s store) invitesTo(ctx context.Context, user account, now time.Time) ([]inviteRow, map[string]Organization, error) {
	rows, err := gorm.G[inviteRow](s.db.Reader(ctx)).
		Where(`email = ? AND status IN ('pending', 'approval') AND expires > ?
			AND EXISTS (SELECT 1 FROM organizations o WHERE o.id = invites.organization_id AND o.deleted = 0)
			AND NOT EXISTS (SELECT 1 FROM members m WHERE m.organization_id = invites.organization_id AND m.user_id = ?)`,
			user.verified(), database.Micros(now), user.ID).
		Order("created DESC, id DESC").Limit(maxInvitesTo).Find(ctx)
	if err != nil {
		return nil, nil, err
	}
	ids := make([]string, len(rows))
	for i, row := range rows {
		ids[i] = row.OrganizationID
	}
	found, err := gorm.G[organizationRow](s.db.Reader(ctx)).Where("id IN ?", ids).Find(ctx)
	if err != nil {
		return nil, nil, err
	}
	organizations := make(map[string]Organization, len(found))
	for _, row := range found {
		organizations[row.ID] = row.organization()
	}
	return rows, organizations, nil
}
