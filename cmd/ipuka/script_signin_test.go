package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ipuka/ipuka/identity/github/githubtest"
	"github.com/ipuka/ipuka/identity/saml/samltest"
	"github.com/ipuka/ipuka/internal/database"
)

// TestScriptSignIn has people sign in for the real CLI, at a GitHub and at
// SimpleSAMLphp. Besides the commands of [TestScript] there are:
//
//	sql STATEMENT     change the database in ./data
//	member NAME KEY   put a member of the JSON object on stdout in $NAME
//	await TEXT PATH   wait until the API's answer has a text
//	keeps FILE…       check that no file, or file in a folder, has one of the secrets
//	                  that the browser, GitHub and the script have seen
//	github join|leave|suspend LOGIN   what happens to somebody at GitHub
//	saml              set up acme's single sign-on with SimpleSAMLphp
func TestScriptSignIn(t *testing.T) {
	if !havePulumi() {
		t.Skip("pulumi and pulumi-language-yaml are not on PATH")
	}
	t.Run("github", func(t *testing.T) {
		hub := githubtest.Start(t)
		stage := &stage{hub: hub}
		stage.populate()
		stage.run(t, "github")
	})
	t.Run("saml", func(t *testing.T) {
		idp := samltest.Start(t)
		stage := &stage{commands: map[string]func(*testscript.TestScript, bool, []string){
			"saml": func(ts *testscript.TestScript, _ bool, _ []string) { setUpSAML(t, ts, idp) },
		}}
		stage.run(t, "saml")
	})
}

// stage is what a script has around it.
type stage struct {
	hub      *githubtest.Server // may be nil
	commands map[string]func(*testscript.TestScript, bool, []string)
}

const octavia = "octavia"

// cats is the organization at GitHub. Its administrator is tabby.
func cats(members ...string) githubtest.Organization {
	o := githubtest.Organization{
		ID: 70, Login: "cats", Members: map[string]githubtest.Membership{"tabby": {Role: "admin"}},
		Teams: []githubtest.Team{{ID: 700, Slug: "claws", Name: "Claws", Members: members}},
	}
	for _, login := range members {
		o.Members[login] = githubtest.Membership{Role: "member"}
	}
	return o
}

func (s *stage) populate() {
	s.hub.SetUser(githubtest.User{ID: 6, Login: "tabby", Name: "Tabby Cat", Emails: []githubtest.Email{{Address: "tabby@example.com", Primary: true, Verified: true}}})
	s.hub.SetUser(s.octavia(false))
	s.hub.SetOrganization(cats(octavia))
}

func (s *stage) octavia(suspended bool) githubtest.User {
	return githubtest.User{ID: 7, Login: octavia, Name: "Octavia Cat", Suspended: suspended, Emails: []githubtest.Email{{Address: "octavia@example.com", Primary: true, Verified: true}}}
}

func (s *stage) run(t *testing.T, name string) {
	p := params(nil, "")
	p.Files = []string{"testdata/signin/" + name + ".txtar"}
	setUp := p.Setup
	p.Setup = func(env *testscript.Env) error {
		if err := setUp(env); err != nil {
			return err
		}
		_, port, _ := strings.Cut(env.Getenv("ADDR"), ":")
		env.Setenv("CONSOLE", "http://localhost:"+port)
		env.Setenv("PULUMI_CONSOLE_DOMAIN", "localhost:"+port)
		if s.hub == nil {
			return nil
		}
		env.Setenv("IPUKA_CONFIG", filepath.Join(env.WorkDir, "ipuka.yaml"))
		secret := filepath.Join(env.WorkDir, "github-secret")
		text := fmt.Sprintf("connectors:\n  - {kind: github, url: %q, client_id: %q, client_secret_file: %q}\n", s.hub.URL, s.hub.ClientID, secret)
		if err := os.WriteFile(secret, []byte(s.hub.ClientSecret), 0o600); err != nil {
			return err
		}
		return os.WriteFile(env.Getenv("IPUKA_CONFIG"), []byte(text), 0o600)
	}
	maps.Copy(p.Cmds, s.commands)
	p.Cmds["sql"] = sql
	p.Cmds["member"] = member
	p.Cmds["await"] = await
	p.Cmds["keeps"] = s.keeps
	p.Cmds["github"] = s.github
	testscript.Run(t, p)
}

func (s *stage) github(ts *testscript.TestScript, _ bool, args []string) {
	switch strings.Join(args, " ") {
	case "suspend " + octavia:
		s.hub.SetUser(s.octavia(true))
	case "leave " + octavia:
		s.hub.SetOrganization(cats())
	case "join " + octavia:
		s.hub.SetOrganization(cats(octavia))
	default:
		ts.Fatalf("usage: github join|leave|suspend %s", octavia)
	}
}

func sql(ts *testscript.TestScript, _ bool, args []string) {
	db, err := database.Open(context.Background(), "sqlite:"+ts.MkAbs("data/ipuka.db"))
	ts.Check(err)
	result := db.Conn(context.Background()).Exec(args[0])
	ts.Check(result.Error)
	if result.RowsAffected == 0 {
		ts.Fatalf("nothing has changed")
	}
	ts.Check(db.Close())
}

func await(ts *testscript.TestScript, _ bool, args []string) {
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(string(get(ts, args[1])), args[0]); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			ts.Fatalf("%s goes on answering %s", args[1], get(ts, args[1]))
		}
	}
}

func member(ts *testscript.TestScript, _ bool, args []string) {
	var object map[string]any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &object))
	value, ok := object[args[1]].(string)
	if !ok || value == "" {
		ts.Fatalf("no %s in %s", args[1], ts.ReadFile("stdout"))
	}
	ts.Setenv(args[0], value)
}

// keeps looks for secrets where they must not be.
func (s *stage) keeps(ts *testscript.TestScript, _ bool, args []string) {
	secrets := strings.Fields(ts.ReadFile("secrets"))
	secrets = append(secrets, ts.Getenv("TOKEN"), ts.Getenv("SCIM"))
	if s.hub != nil {
		secrets = append(secrets, s.hub.Secrets()...)
	}
	looked := 0
	for _, arg := range args {
		ts.Check(filepath.WalkDir(ts.MkAbs(arg), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			text, err := os.ReadFile(path)
			looked += len(text)
			for _, secret := range secrets {
				if len(secret) > 200 {
					secret = secret[:200] // of an assertion
				}
				// Names, such as of the organization of the last single sign-on, are none.
				if len(secret) >= 16 && bytes.Contains(text, []byte(secret)) {
					ts.Fatalf("%s has the secret %s", filepath.Base(path), secret)
				}
			}
			return err
		}))
	}
	if looked == 0 || len(secrets) < 5 {
		ts.Fatalf("looked for %d secrets in %d bytes", len(secrets), looked)
	}
}

// setUpSAML has acme and the identity provider know each other.
func setUpSAML(t *testing.T, ts *testscript.TestScript, idp *samltest.IdP) {
	body, err := json.Marshal(map[string]string{"newIdpSsoDescriptor": idp.Descriptor(t)})
	ts.Check(err)
	request, err := http.NewRequest(http.MethodPatch, ts.Getenv("API")+"/api/orgs/acme/saml", bytes.NewReader(body))
	ts.Check(err)
	request.Header.Set("Authorization", "token "+ts.Getenv("TOKEN"))
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	ts.Check(err)
	defer response.Body.Close()
	var set struct {
		ServiceProvider struct{ EntityID, ACS string } `json:"serviceProvider"`
	}
	ts.Check(json.NewDecoder(response.Body).Decode(&set))
	idp.Register(t, samltest.SP{
		EntityID: set.ServiceProvider.EntityID, ACS: set.ServiceProvider.ACS,
		Signing:      signingCertificate(t, get(ts, "/login/acme/sso/saml/metadata")),
		SignResponse: true, SignAssertion: true,
	})
}
