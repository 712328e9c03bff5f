package oidc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"golang.org/x/oauth2"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/outbound"
)

// problem is why a sign-in does not work.
type problem struct {
	reason      string
	detail      string // for administrators: no secret in it
	unavailable bool   // the provider could not be asked
	cause       error  // for the log
}

func (p *problem) Error() string {
	if p.cause != nil {
		return p.detail + ": " + p.cause.Error()
	}
	return p.detail
}

func (p *problem) Unwrap() error { return p.cause }

func refusal(reason, format string, args ...any) *problem {
	return &problem{reason: reason, detail: fmt.Sprintf(format, args...)}
}

func unavailable(cause error, format string, args ...any) *problem {
	return &problem{detail: fmt.Sprintf(format, args...), unavailable: true, cause: cause}
}

// refuse turns a problem into what identity.Connector returns.
func (c *Connector) refuse(err error) error {
	if err == nil {
		return nil
	}
	p, ok := errors.AsType[*problem](err)
	if !ok || p.unavailable {
		return errs.Wrap(errs.Unavailable, err, "the provider of this sign-in cannot be asked at the moment, try again later")
	}
	r := identity.Refuse(p.reason, identity.Principal{Connector: c.config.Name}, "the sign-in did not work")
	r.Detail = p.detail
	return r
}

// callProblem says why a call of the provider failed.
func callProblem(err error, what string) *problem {
	var why string
	var dns *net.DNSError
	var certificate *tls.CertificateVerificationError
	if unwrapped, ok := errors.AsType[*url.Error](err); ok {
		err = unwrapped.Err
	}
	timeout, isNet := errors.AsType[net.Error](err)
	switch {
	case errors.Is(err, outbound.ErrAddress):
		why = "its server has a private address, which must be allowed first"
	case errors.Is(err, outbound.ErrTooLarge):
		why = "the answer is too large"
	case errors.As(err, &dns):
		why = "the name of its server cannot be resolved"
	case errors.As(err, &certificate):
		why = "the certificate of its server is not accepted"
	case isNet && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		why = "it did not answer in time"
	default:
		why = "the connection failed"
	}
	return unavailable(err, "the provider's %s cannot be read: %s", what, why)
}

// exchangeProblem says why the token endpoint gave no tokens (RFC 6749 §5.2). The text
// of oauth2's errors has the whole answer in it and goes nowhere.
func exchangeProblem(err error) *problem {
	answer, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok {
		if _, ok := errors.AsType[*url.Error](err); ok {
			return callProblem(err, "token endpoint")
		}
		if strings.HasPrefix(err.Error(), "oauth2: cannot fetch token") { // it wraps nothing
			return unavailable(nil, "the answer of the provider's token endpoint broke off, or was too large")
		}
		return refusal("oauth_token", "the provider's token response is not one of OAuth 2.0, or has no access token")
	}
	status := 0
	if answer.Response != nil {
		status = answer.Response.StatusCode
	}
	switch {
	case status >= 500 || status == 429 || status == 408:
		return unavailable(nil, "the provider's token endpoint answered with status %d", status)
	case answer.ErrorCode == "invalid_grant":
		return refusal("oauth_code", "the provider did not accept the code or refresh token: it is used, too old, withdrawn, or for another callback URL%s", said(answer.ErrorDescription))
	case answer.ErrorCode == "invalid_client" || status == 401:
		return refusal("oauth_client", "the provider did not accept the client ID and secret%s", said(answer.ErrorDescription))
	case answer.ErrorCode != "":
		return refusal("oauth_token", "the provider's token endpoint answered %s%s", shown(answer.ErrorCode), said(answer.ErrorDescription))
	}
	return refusal("oauth_token", "the provider's token endpoint answered with status %d", status)
}

// answerProblem says what an error in the callback means (RFC 6749 §4.1.2.1, Core §3.1.2.6).
func answerProblem(code, description string) *problem {
	switch code {
	case "access_denied":
		return refusal("oauth_denied", "the provider, or the person there, denied access%s", said(description))
	case "login_required", "interaction_required", "consent_required", "account_selection_required":
		return refusal("oauth_denied", "the provider wants the person to do something there first: %s%s", code, said(description))
	case "temporarily_unavailable", "server_error":
		return refusal("oauth_error", "the provider has a fault of its own: %s%s", code, said(description))
	}
	return refusal("oauth_error", "the provider answered %s%s", shown(code), said(description))
}

// said quotes what the provider says in its own words.
func said(description string) string {
	if text := shown(description); text != "" {
		return "; it says: " + text
	}
	return ""
}

// maxShown bounds what is quoted of others.
const maxShown = 200

// shown returns what of a text from outside may be shown to an administrator: letters,
// digits and harmless signs, none that any page or log takes for anything else.
func shown(text string) string {
	text = strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.ContainsRune(" .,:;_-/()@+=?'", c):
			return c
		case c == '\n' || c == '\r' || c == '\t':
			return ' '
		}
		return -1
	}, text)
	if len(text) > maxShown {
		text = text[:maxShown]
	}
	return strings.TrimSpace(text)
}
