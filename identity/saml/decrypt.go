package saml

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rsa"
	_ "crypto/sha1" //nolint:gosec // the default hash of RSA-OAEP, which collisions do not harm
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/base64"
	"errors"
	"strings"

	"github.com/beevik/etree"
)

const (
	encryptionNS   = "http://www.w3.org/2001/04/xmlenc#"
	encryption11NS = "http://www.w3.org/2009/xmlenc11#"
)

// keySizes are the algorithms that an assertion may be encrypted with: authenticated
// ones only. CBC tells whoever can try often enough what was encrypted.
var keySizes = map[string]int{
	encryption11NS + "aes128-gcm": 16,
	encryption11NS + "aes192-gcm": 24,
	encryption11NS + "aes256-gcm": 32,
}

// The hashes of RSA-OAEP. It does not need them to be free of collisions.
var (
	oaepDigests = map[string]crypto.Hash{
		"":                      crypto.SHA1, // XML Encryption 1.1 §5.5.2
		signatureNS + "sha1":    crypto.SHA1,
		encryptionNS + "sha256": crypto.SHA256,
		encryptionNS + "sha512": crypto.SHA512,
		"http://www.w3.org/2001/04/xmldsig-more#sha384": crypto.SHA384,
	}
	oaepMasks = map[string]crypto.Hash{
		"":                            crypto.SHA1,
		encryption11NS + "mgf1sha1":   crypto.SHA1,
		encryption11NS + "mgf1sha256": crypto.SHA256,
		encryption11NS + "mgf1sha384": crypto.SHA384,
		encryption11NS + "mgf1sha512": crypto.SHA512,
	}
)

// errDecrypt is the one answer to whatever goes wrong inside.
func errDecrypt() error {
	return refuse("saml_encrypted", "the assertion could not be decrypted: let the identity provider encrypt with RSA-OAEP and AES-GCM, for the encryption certificate in this organization's metadata")
}

var errForm = errors.New("not of the form of XML Encryption")

// decrypt returns the plain text of an EncryptedAssertion (XML Encryption 1.1). What is
// not RSA-OAEP with AES-GCM is refused before a key is touched.
func decrypt(outer *etree.Element, key func() (*rsa.PrivateKey, error)) ([]byte, error) {
	plain, err := open(outer, key)
	if err != nil {
		return nil, errDecrypt()
	}
	return plain, nil
}

func open(outer *etree.Element, private func() (*rsa.PrivateKey, error)) ([]byte, error) {
	data, err := only(outer, encryptionNS, "EncryptedData")
	if err != nil {
		return nil, err
	}
	method, err := only(data, encryptionNS, "EncryptionMethod")
	if err != nil {
		return nil, err
	}
	size := keySizes[attribute(method, "Algorithm")]
	content, err := cipherValue(data)
	if err != nil || size == 0 {
		return nil, errForm
	}
	wrapped, options, err := encryptedKey(outer)
	if err != nil {
		return nil, err
	}
	decrypter, err := private()
	if err != nil {
		return nil, err
	}
	if len(wrapped) != decrypter.Size() {
		return nil, errForm
	}
	key, err := decrypter.Decrypt(nil, wrapped, options)
	if err != nil || len(key) != size {
		return nil, errForm
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	if len(content) < gcm.NonceSize()+gcm.Overhead() {
		return nil, errForm
	}
	return gcm.Open(nil, content[:gcm.NonceSize()], content[gcm.NonceSize():], nil)
}

// encryptedKey returns the one wrapped key, which stands in the data's KeyInfo or
// beside the data.
func encryptedKey(outer *etree.Element) ([]byte, *rsa.OAEPOptions, error) {
	var found []*etree.Element
	_ = walk(outer, func(e *etree.Element) error {
		if is(e, encryptionNS, "EncryptedKey") {
			found = append(found, e)
		}
		return nil
	})
	if len(found) != 1 {
		return nil, nil, errForm
	}
	method, err := only(found[0], encryptionNS, "EncryptionMethod")
	if err != nil {
		return nil, nil, err
	}
	var digest, mask string
	for _, child := range method.ChildElements() {
		switch {
		case is(child, signatureNS, "DigestMethod"):
			digest = attribute(child, "Algorithm")
		case is(child, encryption11NS, "MGF"):
			mask = attribute(child, "Algorithm")
		default:
			return nil, nil, errForm
		}
	}
	switch attribute(method, "Algorithm") {
	case encryptionNS + "rsa-oaep-mgf1p": // its mask is always MGF1 with SHA-1
		if mask != "" {
			return nil, nil, errForm
		}
	case encryption11NS + "rsa-oaep":
	default:
		return nil, nil, errForm
	}
	options := &rsa.OAEPOptions{Hash: oaepDigests[digest], MGFHash: oaepMasks[mask]}
	if options.Hash == 0 || options.MGFHash == 0 {
		return nil, nil, errForm
	}
	wrapped, err := cipherValue(found[0])
	return wrapped, options, err
}

func cipherValue(e *etree.Element) ([]byte, error) {
	data, err := only(e, encryptionNS, "CipherData")
	if err != nil {
		return nil, err
	}
	value, err := only(data, encryptionNS, "CipherValue")
	if err != nil {
		return nil, err
	}
	encoded, ok := text(value)
	if !ok {
		return nil, errForm
	}
	return base64.StdEncoding.DecodeString(strings.Join(strings.Fields(encoded), ""))
}
