// Package outbound makes the HTTP clients that call other people's servers: identity
// providers, metadata, webhooks.
//
// A client made here never follows a redirect, so that credentials go only where
// they were meant to; never reads more than a limit; gives up after a time; and
// reaches only addresses that it may: a name is resolved first, and the very address
// that was judged is dialled, so that a name that changes its mind cannot lead into
// the private network (DNS rebinding). Proxies of the environment are not used.
package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// Options say what a client may do. The zero value reaches public addresses only.
type Options struct {
	// Private allows every address, for servers that the operator has configured.
	Private bool
	// Allow are networks that may be reached although they are not public.
	Allow []netip.Prefix
	// Timeout bounds a whole exchange, 5 s unless set.
	Timeout time.Duration
	// MaxBytes bounds the body of an answer, 1 MiB unless set. Reading more is
	// [ErrTooLarge].
	MaxBytes int64
	// Roots verify servers, the system's unless set.
	Roots *x509.CertPool
}

// Errors of a client's calls, wrapped in the *url.Error of net/http.
var (
	ErrAddress  = errors.New("the server's address is not a public one")
	ErrTooLarge = errors.New("the server's answer is too large")
)

// Client returns a client that keeps to o. It is safe for concurrent use. An answer
// with a redirect is returned as it is.
func Client(o Options) *http.Client {
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 1 << 20
	}
	transport := &http.Transport{
		DialContext:            o.dial,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.Roots},
		TLSHandshakeTimeout:    o.Timeout,
		ResponseHeaderTimeout:  o.Timeout,
		MaxIdleConnsPerHost:    8,
		IdleConnTimeout:        time.Minute,
		ForceAttemptHTTP2:      true,
		MaxResponseHeaderBytes: 64 << 10,
	}
	return &http.Client{
		Timeout:       o.Timeout,
		Transport:     limited{transport, o.MaxBytes},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// dial resolves a name and connects to the first address that may be reached.
func (o Options) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{Timeout: o.Timeout}
	err = fmt.Errorf("%s: %w", host, ErrAddress)
	for _, a := range addresses {
		if !o.allowed(a.Unmap()) {
			continue
		}
		var conn net.Conn
		if conn, err = dialer.DialContext(ctx, network, net.JoinHostPort(a.Unmap().String(), port)); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// special are the networks that are not for the public Internet although Go calls
// their addresses global unicast (IANA special-purpose address registries).
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("64:ff9b::/96"),
	netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("100::/64"), netip.MustParsePrefix("2001::/23"),
	netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2002::/16"),
}

func (o Options) allowed(a netip.Addr) bool {
	if o.Private {
		return true
	}
	for _, network := range o.Allow {
		if network.Contains(a) {
			return true
		}
	}
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	for _, network := range special {
		if network.Contains(a) {
			return false
		}
	}
	return true
}

// limited cuts off answers that are too large.
type limited struct {
	http.RoundTripper
	most int64
}

func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := l.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	answer.Body = &limitedBody{ReadCloser: answer.Body, left: l.most}
	return answer, nil
}

type limitedBody struct {
	io.ReadCloser
	left int64
}

func (b *limitedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, ErrTooLarge
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return n - 1, ErrTooLarge
	}
	return n, err
}
