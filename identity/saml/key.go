package saml

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// key is a private key of ours.
type key = *rsa.PrivateKey

// use is what a key is for. One key never does both: whoever could have us decrypt
// what they like could have us sign it.
type use string

const (
	signing    use = "signing"
	encryption use = "encryption"
)

// keyLife is how long our certificates are valid. Nobody checks it but identity
// providers, some of which stop to work the day after.
const (
	keyLife = 10   // years
	keyBits = 3072 // good for them, NIST SP 800-57 part 1 §5.6.3
)

// pair is a private key, sealed, with its certificate.
type pair struct{ key, certificate []byte }

// newPair makes a key and a self-signed certificate.
func (p *Provider) newPair(organizationID string, u use, now time.Time) (pair, error) {
	private, err := p.generate()
	if err != nil {
		return pair{}, fmt.Errorf("making a key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return pair{}, fmt.Errorf("making a key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: p.console.Hostname(), OrganizationalUnit: []string{"SAML " + string(u)}},
		NotBefore:    now.Add(-time.Hour), NotAfter: now.AddDate(keyLife, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if u == encryption {
		template.KeyUsage = x509.KeyUsageKeyEncipherment
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return pair{}, fmt.Errorf("making a certificate: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return pair{}, fmt.Errorf("making a key: %w", err)
	}
	return pair{key: p.box.Seal(der, sealContext(organizationID, u)), certificate: certificate}, nil
}

// sealContext ties a sealed key to its organization and its use.
func sealContext(organizationID string, u use) string {
	return "saml:" + organizationID + ":" + string(u)
}

// unseal returns a private key of an organization.
func (p *Provider) unseal(row providerRow, u use) (key, error) {
	blob := row.SigningKey
	if u == encryption {
		blob = row.EncryptionKey
	}
	der, err := p.box.Open(blob, sealContext(row.OrganizationID, u))
	if err != nil {
		return nil, fmt.Errorf("opening the %s key of an organization: %w", u, err)
	}
	private, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("reading the %s key of an organization: %w", u, err)
	}
	k, ok := private.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("a key of an organization is not an RSA key")
	}
	return k, nil
}
