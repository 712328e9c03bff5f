package saml

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/url"
	"time"

	"github.com/beevik/etree"
	crewjam "github.com/crewjam/saml"
	dsig "github.com/russellhaering/goxmldsig"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
)

// maxRelayState is what SAML bindings §3.4.3 allows.
const maxRelayState = 80

// Begin returns where the browser goes, with a signed request: by the HTTP-Redirect
// binding, or by HTTP-POST to an identity provider that has only that.
func (c *connector) Begin(ctx context.Context, f identity.Flow) (identity.Redirect, error) {
	var to identity.Redirect
	if f.Request == "" || f.State == "" || len(f.State) > maxRelayState {
		return to, errs.Errorf(errs.Internal, "a flow without a request or state began")
	}
	now, err := c.provider.clock(ctx)
	if err != nil {
		return to, err
	}
	private, err := c.provider.unseal(c.row, signing)
	if err != nil {
		return to, err
	}
	certificate, err := x509.ParseCertificate(c.row.SigningCertificate)
	if err != nil {
		return to, fmt.Errorf("reading a certificate of ours: %w", err)
	}
	sp := &crewjam.ServiceProvider{Key: private, Certificate: certificate, SignatureMethod: dsig.RSASHA256SignatureMethod}
	r := c.request(f, now)
	if c.descriptor.Binding == crewjam.HTTPPostBinding {
		if err := sp.SignAuthnRequest(r); err != nil {
			return to, fmt.Errorf("signing a request: %w", err)
		}
		raw, err := serialize(r)
		if err != nil {
			return to, err
		}
		form := url.Values{"SAMLRequest": {base64.StdEncoding.EncodeToString(raw)}, "RelayState": {f.State}}
		return identity.Redirect{URL: c.descriptor.SSOURL, Form: form}, nil
	}
	to.URL, err = redirect(r, f.State, private)
	return to, err
}

// request is the AuthnRequest of a flow. No authentication context is asked for: how
// people prove who they are is the organization's own business.
func (c *connector) request(f identity.Flow, now time.Time) *crewjam.AuthnRequest {
	create := true
	r := &crewjam.AuthnRequest{
		ID: f.Request, Version: "2.0", IssueInstant: now, Destination: c.descriptor.SSOURL,
		ProtocolBinding: crewjam.HTTPPostBinding, AssertionConsumerServiceURL: c.acs,
		Issuer:       &crewjam.Issuer{Value: c.entityID},
		NameIDPolicy: &crewjam.NameIDPolicy{AllowCreate: &create},
	}
	if c.row.NameIDFormat != "" {
		r.NameIDPolicy.Format = &c.row.NameIDFormat
	}
	if f.Fresh {
		r.ForceAuthn = &f.Fresh
	}
	return r
}

func serialize(r *crewjam.AuthnRequest) ([]byte, error) {
	raw, err := etree.NewDocumentWithRoot(r.Element()).WriteToBytes()
	if err != nil {
		return nil, fmt.Errorf("writing a request: %w", err)
	}
	return raw, nil
}

// redirect encodes a request into an address and signs it there (SAML bindings
// §3.4.4.1): over the three parameters as they are spelled in the address, in this
// order, and over no parameter that the identity provider's address has itself.
func redirect(r *crewjam.AuthnRequest, relayState string, private *rsa.PrivateKey) (string, error) {
	raw, err := serialize(r)
	if err != nil {
		return "", err
	}
	var deflated bytes.Buffer
	w, err := flate.NewWriter(&deflated, flate.DefaultCompression)
	if err != nil {
		return "", err
	}
	_, _ = w.Write(raw) // a Buffer takes everything
	_ = w.Close()
	query := "SAMLRequest=" + url.QueryEscape(base64.StdEncoding.EncodeToString(deflated.Bytes())) +
		"&RelayState=" + url.QueryEscape(relayState) +
		"&SigAlg=" + url.QueryEscape(dsig.RSASHA256SignatureMethod)
	sum := sha256.Sum256([]byte(query))
	signature, err := rsa.SignPKCS1v15(rand.Reader, private, crypto.SHA256, sum[:])
	if err != nil {
		return "", fmt.Errorf("signing a request: %w", err)
	}
	query += "&Signature=" + url.QueryEscape(base64.StdEncoding.EncodeToString(signature))
	to, err := url.Parse(r.Destination)
	if err != nil {
		return "", fmt.Errorf("reading the identity provider's address: %w", err)
	}
	if to.RawQuery != "" {
		query = to.RawQuery + "&" + query
	}
	to.RawQuery = query
	return to.String(), nil
}
