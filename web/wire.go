package web

import (
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// lenient reads answers of the API: the console shows what it understands of them.
var lenient = json.JoinOptions(
	jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true), json.MatchCaseInsensitiveNames(true))

// wireTime is a time in RFC 3339.
type wireTime string

// Time returns the zero time for what is no time.
func (t wireTime) Time() time.Time {
	parsed, err := time.Parse(time.RFC3339Nano, string(t))
	if err != nil {
		return time.Time{}
	}
	return parsed
}

// loose is a T out of text that a client once sent and the API hands on as it is:
// what of it cannot be read stays zero, and spoils nothing around it.
type loose[T any] struct{ V T }

// UnmarshalJSON reads what it can and never fails.
func (l *loose[T]) UnmarshalJSON(data []byte) error {
	_ = json.Unmarshal(data, &l.V, lenient) // see loose
	return nil
}

// seconds returns the time of a Unix timestamp, in which 0 means never.
func seconds(unix int64) time.Time {
	if unix == 0 {
		return time.Time{}
	}
	return time.Unix(unix, 0).UTC()
}

// The answers of the Pulumi API, as far as pages show them.

type wireUser struct {
	Login         string             `json:"githubLogin"`
	Name          string             `json:"name"`
	Email         string             `json:"email"`
	Organizations []wireOrganization `json:"organizations"`
}

type wireOrganization struct {
	Login string `json:"githubLogin"`
	Name  string `json:"name"`
	Role  string `json:"role"` // of the visitor
}

type wireStackList struct {
	Stacks []wireStackItem `json:"stacks"`
	Next   string          `json:"continuationToken"`
}

type wireStackItem struct {
	Organization string `json:"orgName"`
	Project      string `json:"projectName"`
	Stack        string `json:"stackName"`
	LastUpdate   *int64 `json:"lastUpdate"`
	Resources    *int64 `json:"resourceCount"`
}

type wireStack struct {
	Organization string            `json:"orgName"`
	Project      string            `json:"projectName"`
	Stack        string            `json:"stackName"`
	Version      int64             `json:"version"`
	ActiveUpdate string            `json:"activeUpdate"`
	Tags         map[string]string `json:"tags"`
	Operation    *struct {
		Kind    string `json:"kind"`
		Author  string `json:"author"`
		Started int64  `json:"started"`
	} `json:"currentOperation"`
}

type wireUpdateList struct {
	Updates []wireUpdate `json:"updates"`
	Total   int64        `json:"total"`
}

// wireUpdate reads both forms of a history entry: the one of the CLI, which is
// flat, and the one of the Pulumi Console, which nests it in info.
type wireUpdate struct {
	Info        *wireUpdateInfo `json:"info"`
	ID          string          `json:"updateID"`
	RequestedBy *wirePerson     `json:"requestedBy"`
	Token       string          `json:"requestedByToken"`
	Flat        wireUpdateInfo  `json:",embed"`
}

func (u *wireUpdate) info() *wireUpdateInfo {
	if u.Info == nil {
		return &u.Flat
	}
	if u.Info.Version == 0 {
		u.Info.Version = u.Flat.Version
	}
	return u.Info
}

type wirePerson struct {
	Login string `json:"githubLogin"`
	Name  string `json:"name"`
}

type wireUpdateInfo struct {
	Kind        string                       `json:"kind"`
	Version     int64                        `json:"version"`
	Result      string                       `json:"result"`
	Message     string                       `json:"message"`
	Start       int64                        `json:"startTime"`
	End         int64                        `json:"endTime"`
	Environment loose[map[string]string]     `json:"environment"`
	Config      loose[map[string]wireConfig] `json:"config"`
	Changes     loose[map[string]int64]      `json:"resourceChanges"`
	Resources   *int64                       `json:"resourceCount"`
}

type wireConfig struct {
	String string `json:"string"`
	Secret bool   `json:"secret"`
	Object bool   `json:"object"`
}

type wireExport struct {
	Version    int             `json:"version"`
	Deployment *wireDeployment `json:"deployment"`
}

type wireDeployment struct {
	Manifest struct {
		Time    wireTime `json:"time"`
		Version string   `json:"version"`
	} `json:"manifest"`
	Resources []loose[wireResource] `json:"resources"`
	Pending   []loose[wirePending]  `json:"pending_operations"`
}

type wirePending struct {
	Resource wireResource `json:"resource"`
	Type     string       `json:"type"`
}

type wireResource struct {
	URN      string         `json:"urn"`
	Type     string         `json:"type"`
	ID       string         `json:"id"`
	Parent   string         `json:"parent"`
	Provider string         `json:"provider"`
	Custom   bool           `json:"custom"`
	Delete   bool           `json:"delete"`
	Protect  bool           `json:"protect"`
	External bool           `json:"external"`
	Taint    bool           `json:"taint"`
	Inputs   jsontext.Value `json:"inputs"`
	Outputs  jsontext.Value `json:"outputs"`
	Depends  []string       `json:"dependencies"`
	Modified string         `json:"modified"`
}

type wireEventList struct {
	Events []loose[wireEvent] `json:"events"`
	Next   *string            `json:"continuationToken"`
}

type wireEvent struct {
	Sequence    int64           `json:"sequence"`
	Timestamp   int64           `json:"timestamp"`
	ResourcePre *wireStep       `json:"resourcePreEvent"`
	ResOutputs  *wireStep       `json:"resOutputsEvent"`
	ResFailed   *wireStep       `json:"resOpFailedEvent"`
	Diagnostic  *wireDiagnostic `json:"diagnosticEvent"`
	Stdout      *wireDiagnostic `json:"stdoutEvent"`
	Policy      *wirePolicy     `json:"policyEvent"`
	Error       *struct {
		Error string `json:"error"`
	} `json:"errorEvent"`
	Cancel  *struct{} `json:"cancelEvent"`
	Summary *struct {
		Changes  map[string]int64 `json:"resourceChanges"`
		Duration float64          `json:"durationSeconds"`
	} `json:"summaryEvent"`
}

type wireStep struct {
	Metadata struct {
		Op     string                    `json:"op"`
		URN    string                    `json:"urn"`
		Type   string                    `json:"type"`
		Old    *wireState                `json:"old"`
		New    *wireState                `json:"new"`
		Diffs  []string                  `json:"diffs"`
		Detail map[string]wirePropChange `json:"detailedDiff"`
	} `json:"metadata"`
}

type wireState struct {
	ID      string         `json:"id"`
	Inputs  jsontext.Value `json:"inputs"`
	Outputs jsontext.Value `json:"outputs"`
}

type wirePropChange struct {
	Kind  string `json:"diffKind"`
	Input bool   `json:"inputDiff"`
}

type wireDiagnostic struct {
	URN      string `json:"urn"`
	Prefix   string `json:"prefix"`
	Message  string `json:"message"`
	Severity string `json:"severity"`
}

type wirePolicy struct {
	URN     string `json:"resourceUrn"`
	Message string `json:"message"`
	Policy  string `json:"policyName"`
	Pack    string `json:"policyPackName"`
	Level   string `json:"enforcementLevel"`
}

type wireTokenList struct {
	Tokens []wireToken `json:"tokens"`
	Next   string      `json:"continuationToken"`
}

type wireToken struct {
	ID          string   `json:"id"`
	Description string   `json:"description"`
	Created     wireTime `json:"created"`
	LastUsed    int64    `json:"lastUsed"`
	Expires     int64    `json:"expires"`
}

type wireAuditList struct {
	Events []wireAuditEvent `json:"auditLogEvents"`
	Next   string           `json:"continuationToken"`
}

// wireAuditEvent is the Pulumi API's record with what Ipuka adds to it.
type wireAuditEvent struct {
	Timestamp   int64      `json:"timestamp"`
	Event       string     `json:"event"`
	Description string     `json:"description"`
	User        wirePerson `json:"user"`
	Address     string     `json:"sourceIP"`
	TokenName   string     `json:"tokenName"`
	ActorName   string     `json:"actorName"`
	AuthFailure bool       `json:"authFailure"`

	Object    string            `json:"object"`
	Decision  string            `json:"decision"`
	Rule      string            `json:"rule"`
	Result    string            `json:"result"`
	Status    int               `json:"status"`
	RequestID string            `json:"requestID"`
	UserAgent string            `json:"userAgent"`
	Connector string            `json:"connector"`
	Details   map[string]string `json:"details"`
}
