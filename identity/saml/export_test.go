package saml

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"net/url"
	"sync"
	"time"

	"github.com/ipuka/ipuka/identity"
)

// Verifier is the pure part, for tests.
type Verifier struct {
	EntityID, ACS, Issuer, NameIDFormat string
	ValidUntil                          time.Time
	Certificates                        []*x509.Certificate
	Attributes                          AttributeMap
	Domains                             []string
	IdPInitiated                        bool
	Decryption                          func() (*rsa.PrivateKey, error)
}

func (v Verifier) Verify(form url.Values, f identity.Flow, now time.Time) (identity.External, *identity.Refusal) {
	return verifier{
		connector: "saml:org", entityID: v.EntityID, acs: v.ACS, issuer: v.Issuer, nameIDFormat: v.NameIDFormat, validUntil: v.ValidUntil,
		certificates: v.Certificates, attributes: v.Attributes, domains: v.Domains, idpInitiated: v.IdPInitiated, decryption: v.Decryption,
	}.verify(form, f, now)
}

var (
	Parse = parse
	Scan  = scan
)

var pool struct {
	sync.Mutex
	keys []key
	next int
}

// Quick has a provider take its keys in turn from a few that are made once.
func (p *Provider) Quick() {
	p.generate = func() (key, error) {
		pool.Lock()
		defer pool.Unlock()
		if len(pool.keys) < 4 {
			k, err := rsa.GenerateKey(rand.Reader, 2048)
			pool.keys = append(pool.keys, k)
			return k, err
		}
		pool.next++
		return pool.keys[pool.next%len(pool.keys)], nil
	}
}
