package saml

import (
	"context"
	"errors"

	"github.com/go-json-experiment/json"
	"gorm.io/gorm"

	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
)

// store is all SQL of this package. Its methods join the transaction of ctx.
type store struct{ db *database.DB }

type providerRow struct {
	OrganizationID        string `gorm:"primaryKey"`
	Generation            int64
	Descriptor            string
	DescriptorURL         string
	NextFetch             int64
	FetchError            string
	NameIDFormat          string
	IDPInitiated          bool `gorm:"column:idp_initiated"`
	Encrypted             bool
	SignUp                bool
	AttributeNames        string
	EmailDomains          string
	SigningKey            []byte
	SigningCertificate    []byte
	EncryptionKey         []byte
	EncryptionCertificate []byte
	Updated               int64
}

func (providerRow) TableName() string { return "saml_providers" }

// names is how an [AttributeMap] is stored.
type names struct {
	Login     string `json:"login,omitempty"`
	Name      string `json:"name,omitempty"`
	FirstName string `json:"firstName,omitempty"`
	LastName  string `json:"lastName,omitempty"`
	Email     string `json:"email,omitempty"`
	Groups    string `json:"groups,omitempty"`
}

// attributes and domains are read back from what setAttributes and setDomains wrote.
func (r providerRow) attributes() AttributeMap {
	var n names
	_ = json.Unmarshal([]byte(r.AttributeNames), &n)
	return AttributeMap(n)
}

func (r *providerRow) setAttributes(m AttributeMap) error {
	raw, err := json.Marshal(names(m))
	r.AttributeNames = string(raw)
	return err
}

func (r providerRow) domains() []string {
	var d []string
	_ = json.Unmarshal([]byte(r.EmailDomains), &d)
	return d
}

func (r *providerRow) setDomains(domains []string) error {
	raw, err := json.Marshal(domains)
	r.EmailDomains = string(raw)
	return err
}

// provider returns the row of an organization; errs.NotFound without one.
func (s store) provider(ctx context.Context, organizationID string) (providerRow, error) {
	row, err := gorm.G[providerRow](s.db.Reader(ctx)).Where("organization_id = ?", organizationID).Take(ctx)
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return row, errNotSetUp()
	}
	return row, err
}

// save stores row, whose Generation is the one that it was read with and 0 for a new
// one. A change in between is errs.Conflict.
func (s store) save(ctx context.Context, row providerRow) error {
	read := row.Generation
	row.Generation++
	if read == 0 {
		err := gorm.G[providerRow](s.db.Conn(ctx)).Create(ctx, &row)
		if errors.Is(err, gorm.ErrDuplicatedKey) {
			return errChanged()
		}
		return err
	}
	n, err := gorm.G[providerRow](s.db.Conn(ctx)).Where("organization_id = ? AND generation = ?", row.OrganizationID, read).Select("*").Updates(ctx, row)
	if err == nil && n == 0 {
		return errChanged()
	}
	return err
}

func errChanged() error {
	return errs.Errorf(errs.Conflict, "somebody else has changed the SAML settings at the same time, look at them and try again")
}

func (s store) remove(ctx context.Context, organizationID string) (bool, error) {
	n, err := gorm.G[providerRow](s.db.Conn(ctx)).Where("organization_id = ?", organizationID).Delete(ctx)
	return n > 0, err
}

// due returns organizations whose descriptor should be fetched, the longest overdue first.
func (s store) due(ctx context.Context, now int64, limit int) ([]providerRow, error) {
	return gorm.G[providerRow](s.db.Reader(ctx)).Where("next_fetch > 0 AND next_fetch <= ?", now).Order("next_fetch").Limit(limit).Find(ctx)
}

// claim puts off the next fetch of row, and reports whether this replica did it.
func (s store) claim(ctx context.Context, row providerRow, next int64) (bool, error) {
	n, err := gorm.G[providerRow](s.db.Conn(ctx)).Where("organization_id = ? AND next_fetch = ?", row.OrganizationID, row.NextFetch).Update(ctx, "next_fetch", next)
	return n > 0, err
}

// noteFetch writes down when to fetch again and what went wrong, unless the settings
// have been changed meanwhile.
func (s store) noteFetch(ctx context.Context, row providerRow, next int64, failure string) error {
	return s.db.Conn(ctx).Exec("UPDATE saml_providers SET next_fetch = ?, fetch_error = ? WHERE organization_id = ? AND generation = ?",
		next, failure, row.OrganizationID, row.Generation).Error
}
