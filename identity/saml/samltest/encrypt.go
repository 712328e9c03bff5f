package samltest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // the default hash of RSA-OAEP
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"testing"

	"github.com/beevik/etree"
)

// Sealing says how to encrypt when it is not RSA-OAEP with AES-128-GCM. Its functions
// may damage what they get.
type Sealing struct {
	Data, Transport string // algorithms, as they stand in the document; only the names change
	Wrapped, Sealed func([]byte) []byte
	Plain           func([]byte) []byte
	Element         func(*etree.Element) // the EncryptedAssertion
}

// Encrypt replaces the assertion of a response by an encrypted one, for the holder of
// the key of a certificate. A signature of the response has to be made afterwards.
func Encrypt(t testing.TB, response *etree.Element, to *x509.Certificate, o Sealing) {
	t.Helper()
	assertion := response.SelectElement("Assertion")
	alone := assertion.Copy()
	plain, err := etree.NewDocumentWithRoot(alone).WriteToBytes()
	if err != nil {
		t.Fatal(err)
	}
	if o.Plain != nil {
		plain = o.Plain(plain)
	}
	key := make([]byte, 16)
	nonce := make([]byte, 12)
	_, _ = rand.Read(key)
	_, _ = rand.Read(nonce)
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	sealed := gcm.Seal(nonce, nonce, plain, nil)
	wrapped, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, to.PublicKey.(*rsa.PublicKey), key, nil) //nolint:gosec // the default hash of RSA-OAEP
	if err != nil {
		t.Fatal(err)
	}
	if o.Wrapped != nil {
		wrapped = o.Wrapped(wrapped)
	}
	if o.Sealed != nil {
		sealed = o.Sealed(sealed)
	}
	if o.Data == "" {
		o.Data = "http://www.w3.org/2009/xmlenc11#aes128-gcm"
	}
	if o.Transport == "" {
		o.Transport = "http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p"
	}
	outer := parse(t, fmt.Sprintf(`<saml:EncryptedAssertion xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion"><xenc:EncryptedData xmlns:xenc="http://www.w3.org/2001/04/xmlenc#" Type="http://www.w3.org/2001/04/xmlenc#Element">`+
		`<xenc:EncryptionMethod Algorithm="%s"/><ds:KeyInfo xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><xenc:EncryptedKey><xenc:EncryptionMethod Algorithm="%s"/>`+
		`<xenc:CipherData><xenc:CipherValue>%s</xenc:CipherValue></xenc:CipherData></xenc:EncryptedKey></ds:KeyInfo>`+
		`<xenc:CipherData><xenc:CipherValue>%s</xenc:CipherValue></xenc:CipherData></xenc:EncryptedData></saml:EncryptedAssertion>`,
		o.Data, o.Transport, base64.StdEncoding.EncodeToString(wrapped), base64.StdEncoding.EncodeToString(sealed)))
	if o.Element != nil {
		o.Element(outer)
	}
	at := assertion.Index()
	response.RemoveChildAt(at)
	response.InsertChildAt(at, outer)
}
