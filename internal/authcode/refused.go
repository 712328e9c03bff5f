package authcode

import "strings"

// Refused is an answer that does not sign anybody in.
type Refused struct {
	Reason string // one of the reasons below
	Detail string // what is wrong, for an administrator: a fixed text
}

// The reasons.
const (
	Denied   = "oauth_denied"   // the person, or a policy, said no
	Failed   = "oauth_error"    // the provider answered with another error
	Response = "oauth_response" // no answer of RFC 6749 §4.1.2
	State    = "oauth_state"    // not the answer to this flow
	Issuer   = "oauth_issuer"   // another provider's answer (mix-up)
	Code     = "oauth_code"     // the code could not be exchanged
)

func (r *Refused) Error() string { return r.Reason + ": " + r.Detail }

// Code returns the error code that Detail begins with.
func (r *Refused) Code() string {
	code, _, _ := strings.Cut(r.Detail, ":")
	return code
}

// advice are the error codes that are known, of RFC 6749 §4.1.2.1 and §5.2, OpenID
// Connect Core §3.1.2.6 and of providers' own, and what an administrator does about
// them. No other text of an answer is shown or kept, for anybody can put one into a
// link.
var advice = map[string]string{
	"access_denied":              "the authorization was refused, by the person or by a policy of the provider",
	"invalid_request":            "the provider could not make sense of the request",
	"invalid_scope":              "the application at the provider is not allowed a scope that is needed",
	"unauthorized_client":        "the application at the provider may not use the authorization code flow",
	"unsupported_response_type":  "the application at the provider may not use the authorization code flow",
	"unsupported_grant_type":     "the application at the provider may not use the authorization code flow",
	"server_error":               "the provider had a fault of its own",
	"temporarily_unavailable":    "the provider was overloaded or in maintenance",
	"login_required":             "the provider wanted a sign-in that it did not ask for",
	"interaction_required":       "the provider wanted to ask something that it did not ask",
	"consent_required":           "the provider wanted a consent that it did not ask for",
	"account_selection_required": "the provider wanted an account to be chosen",
	"application_suspended":      "the application is suspended at the provider",
	"redirect_uri_mismatch":      "the callback URL is not the one that is registered with the application at the provider",
	"invalid_client":             "the client ID or the client secret is wrong",

	"incorrect_client_credentials": "the client ID or the client secret is wrong",
	"invalid_grant":                "the code or token is expired, used, or was given to another client, callback or browser",
	"bad_verification_code":        "the code is expired, used, or was given to another client or browser",
	"bad_refresh_token":            "the refresh token is expired, used or revoked",
	"unverified_user_email":        "the person has not confirmed the e-mail address at the provider",
}

// detail describes an error code in words of our own.
func detail(code string) string {
	if text, known := advice[code]; known {
		return code + ": " + text
	}
	return "the provider answered with an error that has no known code"
}

// answered is what the authorization endpoint's error means.
func answered(code string) error {
	if code == "access_denied" {
		return &Refused{Denied, detail(code)}
	}
	return &Refused{Failed, detail(code)}
}

// exchanged is what the token endpoint's error means.
func exchanged(code string) error { return &Refused{Code, detail(code)} }
