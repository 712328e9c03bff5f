package state

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

const (
	defaultPage = 500
	largestPage = 1000
)

type summaryBody struct {
	ID            string `json:"id"`
	OrgName       string `json:"orgName"`
	ProjectName   string `json:"projectName"`
	StackName     string `json:"stackName"`
	LastUpdate    *int64 `json:"lastUpdate,omitzero"`
	ResourceCount *int64 `json:"resourceCount,omitzero"`
}

// listStacks answers with a page of stacks ordered by organization, project and name.
// Who may see which is for the gate to say.
func (s *Server) listStacks(w http.ResponseWriter, r *http.Request) error {
	f, err := filterOf(r.URL.Query())
	if err != nil {
		return err
	}
	page, err := s.store.stacks(r.Context(), f)
	if err != nil {
		return err
	}
	var body struct {
		Stacks            []summaryBody `json:"stacks"`
		ContinuationToken string        `json:"continuationToken,omitempty"` // an empty one would make clients ask for ever
	}
	if len(page) > f.limit {
		page = page[:f.limit]
		body.ContinuationToken = listToken(page[len(page)-1].ref)
	}
	for _, st := range page {
		item := summaryBody{ID: st.id, OrgName: st.ref.organization, ProjectName: st.ref.project, StackName: st.ref.name}
		if st.version > 0 {
			started := st.lastUpdate.Unix()
			if st.running {
				started = 0 // shown as "in progress"
			}
			item.LastUpdate, item.ResourceCount = &started, &st.resources
		}
		body.Stacks = append(body.Stacks, item)
	}
	httpapi.WriteJSON(w, http.StatusOK, body)
	return nil
}

func filterOf(query url.Values) (filter, error) {
	f := filter{
		organization: query.Get("organization"), project: query.Get("project"),
		tagName: query.Get("tagName"), tagValue: query.Get("tagValue"), hasTagValue: query.Has("tagValue"), limit: defaultPage,
	}
	if f.hasTagValue && f.tagName == "" {
		return filter{}, errs.Errorf(errs.Invalid, "tagValue needs a tagName")
	}
	if text := query.Get("maxResults"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return filter{}, errs.Errorf(errs.Invalid, "maxResults is a whole number from 1")
		}
		f.limit = min(n, largestPage)
	}
	var err error
	if token := query.Get("continuationToken"); token != "" {
		f.after, err = parseListToken(token)
	}
	return f, err
}

// listToken names the last stack of a page, as text that nobody should interpret.
func listToken(last stackRef) string {
	return base64.RawURLEncoding.EncodeToString([]byte(last.String()))
}

func parseListToken(token string) (stackRef, error) {
	text, err := base64.RawURLEncoding.Strict().DecodeString(token)
	parts := strings.Split(string(text), "/")
	if err != nil || len(parts) != 3 {
		return stackRef{}, errs.Errorf(errs.Invalid, "the continuation token is not one that this service gave out")
	}
	return stackRef{parts[0], parts[1], parts[2]}, nil
}
