package state_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"gocloud.dev/secrets/localsecrets"

	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/database/databasetest"
	"github.com/ipuka/ipuka/state"
)

func jsonInt(n int64) string { return fmt.Sprint(n) }

// deployment is an untyped deployment of stack acme/web/STACK with spacing and numbers
// that encoding it again would change.
func deployment(stack string, names ...string) string {
	resources := make([]string, len(names))
	for i, name := range names {
		resources[i] = resource(stack, name, "id-"+name)
	}
	return `{"version": 3,  "deployment":{"manifest":{"time":"2026-01-01T00:00:00Z","magic":"","version":""},
		"secrets_providers":{"type":"service","state":{"url":"https:\/\/x","owner":"acme","project":"web","stack":"` + stack + `"}},
		"resources":[` + strings.Join(resources, ",\n") + `]}}`
}

func TestOnlyTheGateMayCall(t *testing.T) {
	each(t, func(s *service) {
		s.stack("web", "dev")
		for _, path := range []string{dev, "/api/user/stacks", "/api/nonsense", "/api/stacks/acme/web/dev/"} {
			r, _ := http.NewRequest("GET", s.url+path, nil)
			s.send(r).want(401)
		}
		r, _ := http.NewRequest("DELETE", s.url+dev+"?force=true", nil)
		if err := s.signer.Sign(r, alice, "1"); err != nil {
			t.Fatal(err)
		}
		r.Method = "GET" // an assertion for another method
		s.send(r).want(401)
		r, _ = http.NewRequest("GET", s.url+"/api/capabilities", nil)
		a := s.send(r).want(200)
		if want := `{"capabilities":[{"capability":"batch-encrypt"},{"capability":"deployment-schema-version","version":1,"configuration":{"version":4}}]}`; string(a.body) != want {
			t.Errorf("capabilities: %s", a.body)
		}
	})
}

func TestUnknownRoutes(t *testing.T) {
	each(t, func(s *service) {
		s.stack("web", "dev")
		for _, call := range []string{"GET /api/nonsense", "GET /", "PUT " + dev, "GET " + dev + "/deployments/settings", "GET " + dev + "/drift/status",
			"POST " + dev + "/import/x/complete", "GET " + dev + "/", "GET /api//stacks/acme/web/dev", "POST " + dev + "/updates/1/cancel", "GET /api/stacks/acme/web"} {
			method, path, _ := strings.Cut(call, " ")
			s.do(method, path, nil).want(404)
		}
	})
}

func TestNames(t *testing.T) {
	each(t, func(s *service) {
		for _, name := range []string{"", "a b", "a%2fb", "ü", strings.Repeat("x", 101), "a:b", "..."[:2]} {
			body, _ := json.Marshal(map[string]string{"stackName": strings.ReplaceAll(name, "%2f", "/")})
			s.do("POST", "/api/stacks/acme/web", body).want(400).says("100 letters")
		}
		for _, path := range []string{"/api/stacks/acme/web/a%2fb", "/api/stacks/a%20b/web/dev", "/api/stacks/acme/" + strings.Repeat("x", 101) + "/dev", "/api/stacks/acme/web/%C3%BC"} {
			s.do("GET", path, nil).want(400).says("100 letters")
		}
		s.stack("web", strings.Repeat("x", 100))
		s.stack("web", "A-z_0.9")
	})
}

func TestCreateStack(t *testing.T) {
	each(t, func(s *service) {
		s.do("HEAD", "/api/stacks/acme/web", nil).want(404)
		s.do("GET", dev, nil).want(404)
		s.do("POST", "/api/stacks/acme/web", `{"stackName":"dev","tags":null,"teams":[],"config":null}`).want(200).is("messages", "[]")
		s.do("HEAD", "/api/stacks/acme/web", nil).want(200)
		s.do("POST", "/api/stacks/acme/web", `{"stackName":"dev"}`).want(409).says("already exists")
		s.do("POST", "/api/stacks/acme/web", `{"stackName":"b","teams":["x"]}`).want(400)
		s.do("POST", "/api/stacks/acme/web", `{"stackName":"b","config":{"environment":"x/y"}}`).want(400)
		s.do("POST", "/api/stacks/acme/web", `{"stackName":"b","tags":{"pulumi:project":"other"}}`).want(400)
		s.do("POST", "/api/stacks/acme/web", `{"stackName":"b","tags":{"`+strings.Repeat("x", 41)+`":"v"}}`).want(400)
		s.do("POST", "/api/stacks/acme/web", `{"stackName":"b","stackname":"c"}`).want(400)
		s.do("GET", "/api/stacks/acme/web/b", nil).want(404)

		state := deployment("b", "x", "y")
		s.do("POST", "/api/stacks/acme/web", `{"stackName":"b","state":`+state+`}`).want(200)
		if a := s.do("GET", "/api/stacks/acme/web/b/export", nil).want(200); string(a.body) != state {
			t.Errorf("exported %s", a.body)
		}
		s.do("GET", "/api/stacks/acme/web/b/updates/latest", nil).want(200).is("info.kind", "import").is("info.resourceCount", "2").is("version", "1")
		s.do("POST", "/api/stacks/acme/web", `{"stackName":"c","state":`+deployment("b", "x")+`}`).want(400).says("different stack")
		s.do("POST", "/api/stacks/acme/web", `{"stackName":"c","state":{"version":9,"deployment":{}}}`).want(400)
		s.do("GET", "/api/stacks/acme/web/c", nil).want(404)
	})
}

func TestDeleteStack(t *testing.T) {
	each(t, func(s *service) {
		stack := s.stack("web", "dev")
		u := s.up(stack, "a")
		a := s.do("DELETE", stack+"?force=false", nil).want(400)
		if a.get("message") != "Bad Request: Stack still contains resources." {
			t.Errorf("message %q, which clients compare", a.get("message"))
		}
		running := s.start(stack, "update")
		s.do("DELETE", stack+"?force=true", nil).want(409).says("alice")
		running.complete("succeeded").want(204)
		s.do("DELETE", stack+"?force=true", nil).want(204)
		s.do("DELETE", stack+"?force=true", nil).want(404)
		s.do("GET", stack, nil).want(404)
		u.journal().want(403)
		s.stack("web", "dev")
		s.do("GET", stack, nil).want(200).is("version", "0")
		s.do("GET", stack+"/updates", nil).want(200).is("updates", "[]")
		s.do("GET", stack+"/updates/latest", nil).want(404)
		s.do("DELETE", stack, nil).want(204)

		s.open() // sweeps
		if object, err := s.bucket.List(nil).Next(context.Background()); err == nil {
			t.Errorf("%s stays in the bucket", object.Key)
		}
	})
}

func TestTags(t *testing.T) {
	each(t, func(s *service) {
		stack := s.stack("web", "dev")
		s.do("PATCH", stack+"/tags", `{"a":"1","pulumi:project":"web"}`).want(204)
		s.do("PATCH", stack+"/tags", `{"b.c-d_e:f":"`+strings.Repeat("v", 256)+`"}`).want(204)
		for _, body := range []string{`{"":"x"}`, `{"a b":"x"}`, `{"` + strings.Repeat("a", 41) + `":"x"}`, `{"a":"` + strings.Repeat("v", 257) + `"}`,
			`{"pulumi:project":"other"}`, `{"a":1}`, `[]`, `{"a":"1","a":"2"}`} {
			s.do("PATCH", stack+"/tags", body).want(400)
		}
		s.do("GET", stack, nil).want(200).is("tags.a", "").is("tags.b.c-d_e:f", "")
		if got := s.do("GET", stack, nil).get("tags"); got != `{"b.c-d_e:f":"`+strings.Repeat("v", 256)+`"}` {
			t.Errorf("tags %s", got)
		}
		s.do("PATCH", "/api/stacks/acme/web/none/tags", `{}`).want(404)
	})
}

func TestStackConfigIsNotKept(t *testing.T) {
	each(t, func(s *service) {
		stack := s.stack("web", "dev")
		s.do("GET", stack+"/config", nil).want(404)
		s.do("PUT", stack+"/config", `{"environment":"a/b"}`).want(400)
		s.do("DELETE", stack+"/config", nil).want(404)
	})
}

func TestListStacks(t *testing.T) {
	each(t, func(s *service) {
		var want []string
		for _, project := range []string{"api", "web"} {
			for i := range 5 {
				name := fmt.Sprint("s", i)
				s.do("POST", "/api/stacks/acme/"+project, fmt.Sprintf(`{"stackName":"%s","tags":{"n":"%d","p":"%s"}}`, name, i%2, project)).want(200)
				want = append(want, project+"/"+name)
			}
		}
		s.do("POST", "/api/stacks/other/web", `{"stackName":"s0"}`).want(200)

		list := func(query string) (found []string, pages int) {
			token := ""
			for {
				a := s.do("GET", "/api/user/stacks?"+query+token, nil).want(200)
				var body struct {
					Stacks            []struct{ OrgName, ProjectName, StackName string }
					ContinuationToken *string
				}
				if err := json.Unmarshal(a.body, &body); err != nil || body.Stacks == nil {
					t.Fatalf("%v: %s", err, a.body)
				}
				for _, st := range body.Stacks {
					if st.OrgName == "acme" {
						found = append(found, st.ProjectName+"/"+st.StackName)
					} else {
						found = append(found, st.OrgName)
					}
				}
				pages++
				if body.ContinuationToken == nil {
					return found, pages
				}
				if *body.ContinuationToken == "" {
					t.Fatal("an empty token makes clients ask for ever")
				}
				token = "&continuationToken=" + *body.ContinuationToken
			}
		}
		for _, c := range []struct {
			query string
			want  []string
			pages int
		}{
			{"organization=acme", want, 1},
			{"organization=acme&maxResults=3", want, 4},
			{"organization=acme&maxResults=5", want, 2},
			{"maxResults=4", append(want[:10:10], "other"), 3},
			{"organization=acme&project=web&maxResults=2", want[5:], 3},
			{"project=api&maxResults=2", want[:5], 3},
			{"organization=none", nil, 1},
			{"organization=acme&tagName=n&tagValue=1", []string{"api/s1", "api/s3", "web/s1", "web/s3"}, 1},
			{"organization=acme&tagName=p&maxResults=7", want, 2},
			{"organization=acme&tagName=p&tagValue=", nil, 1},
		} {
			found, pages := list(c.query)
			if fmt.Sprint(found) != fmt.Sprint(c.want) || pages != c.pages {
				t.Errorf("%s: %v in %d pages, want %v in %d", c.query, found, pages, c.want, c.pages)
			}
		}
		for _, query := range []string{"continuationToken=x", "maxResults=0", "maxResults=x", "tagValue=x", "continuationToken=YQ"} {
			s.do("GET", "/api/user/stacks?"+query, nil).want(400)
		}

		first := "/api/stacks/acme/api/s0"
		s.do("GET", "/api/user/stacks?organization=acme", nil).is("stacks.0.lastUpdate", "").is("stacks.0.resourceCount", "")
		u := s.start(first, "update")
		s.do("GET", "/api/user/stacks?organization=acme", nil).is("stacks.0.lastUpdate", "0")
		u.journal(success(1, 1, "s0", "a")).want(204)
		u.complete("succeeded").want(204)
		s.do("GET", "/api/user/stacks?organization=acme", nil).is("stacks.0.lastUpdate", jsonInt(s.time().Unix())).is("stacks.0.resourceCount", "1")
	})
}

func TestImport(t *testing.T) {
	each(t, func(s *service) {
		stack := s.stack("web", "dev")
		s.up(stack, "a")
		raw := deployment("dev", "x", "y", "z")
		a := s.do("POST", stack+"/import", raw, as(bob)).want(200)
		s.do("GET", stack+"/update/"+a.get("updateId"), nil).want(200).is("status", "succeeded").is("events", "[]").is("continuationToken", "")
		if got := s.resources(stack, "x", "y", "z"); string(got.body) != raw {
			t.Errorf("exported %s", got.body)
		}
		s.do("GET", stack+"/export/1", nil).want(200).says("id-a")
		// The configuration is carried, clients copy it back; the message is not.
		s.do("GET", stack+"/updates/latest", nil).want(200).is("info.kind", "import").is("info.version", "2").is("info.resourceCount", "3").
			is("info.config.web:plain.string", "v1").is("info.message", "").is("requestedBy.githubLogin", "bob").is("info.environment", "{}")
		s.do("GET", stack, nil).want(200).is("version", "2").is("activeUpdate", a.get("updateId"))

		for _, body := range []string{``, `{}`, `{"version":3}`, `{"version":0,"deployment":{}}`, `{"version":5,"deployment":{}}`, `{"version":3,"deployment":[]}`,
			deployment("other"), strings.Replace(raw, `"acme"`, `"umbrella"`, 1), raw + "x"} {
			s.do("POST", stack+"/import", body).want(400)
		}
		s.do("POST", stack+"/import", `{"version":3,"deployment":null}`).want(200)
		s.resources(stack)
		s.do("POST", stack+"/import", `{"version":3,"deployment":{"manifest":{"time":"2026-01-01T00:00:00Z","magic":"","version":""},"secrets_providers":{"type":"passphrase","state":{"salt":"x"}},"resources":[]}}`).want(200)

		u := s.start(stack, "update")
		s.do("POST", stack+"/import", raw).want(409).says("alice")
		u.complete("succeeded").want(204)
		s.do("POST", stack+"/import", raw).want(200)
		damaged := func(r *http.Request) { r.Header.Set("Content-Encoding", "br") }
		s.do("POST", stack+"/import", raw, damaged).want(415)
	})
}

func encryptOne(s *service, stack, text string) string {
	s.Helper()
	return s.do("POST", stack+"/encrypt", `{"plaintext":"`+base64.StdEncoding.EncodeToString([]byte(text))+`"}`).want(200).get("ciphertext")
}

func decryptOne(s *service, stack, ciphertext string) answer {
	s.Helper()
	return s.do("POST", stack+"/decrypt", `{"ciphertext":"`+ciphertext+`"}`)
}

func TestSecrets(t *testing.T) {
	each(t, func(s *service) {
		stack, other := s.stack("web", "dev"), s.stack("web", "other")
		secret := encryptOne(s, stack, "s3cr3t")
		decryptOne(s, stack, secret).want(200).is("plaintext", base64.StdEncoding.EncodeToString([]byte("s3cr3t")))
		decryptOne(s, other, secret).want(400)

		plain := []string{"", "YQ==", "YQ==", base64.StdEncoding.EncodeToString([]byte{0xff, 0, 0xfe})}
		body, _ := json.Marshal(map[string]any{"plaintexts": plain})
		a := s.do("POST", stack+"/batch-encrypt", body).want(200)
		var sealed struct{ Ciphertexts []string }
		if err := json.Unmarshal(a.body, &sealed); err != nil || len(sealed.Ciphertexts) != len(plain) || sealed.Ciphertexts[1] == sealed.Ciphertexts[2] {
			t.Fatalf("%v: %s", err, a.body)
		}
		asked := append(sealed.Ciphertexts, sealed.Ciphertexts[0])
		body, _ = json.Marshal(map[string]any{"ciphertexts": asked})
		a = s.do("POST", stack+"/batch-decrypt", body).want(200)
		var opened struct{ Plaintexts map[string]string }
		if err := json.Unmarshal(a.body, &opened); err != nil {
			t.Fatal(err)
		}
		for i, ciphertext := range sealed.Ciphertexts {
			if got, ok := opened.Plaintexts[ciphertext]; !ok || got != plain[i] {
				t.Errorf("plaintext %d is %q, %v", i, got, ok)
			}
		}
		s.do("POST", stack+"/batch-decrypt", `{"ciphertexts":[]}`).want(200).is("plaintexts", "{}")
		s.do("POST", stack+"/batch-encrypt", `{"plaintexts":[]}`).want(200).is("ciphertexts", "[]")
		body, _ = json.Marshal(map[string]any{"ciphertexts": []string{asked[0], "AAAA"}})
		s.do("POST", stack+"/batch-decrypt", body).want(400)

		raw, _ := base64.StdEncoding.DecodeString(secret)
		for i := range raw {
			damaged := append([]byte(nil), raw...)
			damaged[i] ^= 1
			decryptOne(s, stack, base64.StdEncoding.EncodeToString(damaged)).want(400)
		}
		for _, text := range []string{"", "!", "AQ==", secret[:len(secret)-4]} {
			decryptOne(s, stack, text).want(400)
		}
		s.do("POST", stack+"/decrypt/log-decryption", `{"secretName":"x"}`).want(204)
		s.do("POST", stack+"/decrypt/log-batch-decryption", `{"commandName":"x"}`).want(204)
		s.do("POST", "/api/stacks/acme/web/none/encrypt", `{"plaintext":""}`).want(404)
		s.do("POST", "/api/stacks/acme/web/none/decrypt/log-decryption", `{}`).want(404)

		s.open() // keys survive a restart
		decryptOne(s, stack, secret).want(200)
	})
}

func TestSecretsOfADeletedStackStayClosed(t *testing.T) {
	each(t, func(s *service) {
		stack := s.stack("web", "dev")
		secret := encryptOne(s, stack, "x")
		s.do("DELETE", stack, nil).want(204)
		decryptOne(s, stack, secret).want(404)
		s.stack("web", "dev")
		decryptOne(s, stack, secret).want(400).says("deleted")
	})
}

func TestRename(t *testing.T) {
	each(t, func(s *service) {
		stack := s.stack("web", "dev")
		s.up(stack, "a")
		secret := encryptOne(s, stack, "x")
		old := string(s.do("GET", stack+"/export", nil).body)
		renamed := "/api/stacks/acme/shop/prod"
		s.stack("web", "taken")
		s.do("POST", stack+"/rename", `{"newName":"taken","newProject":"web"}`).want(409).says("already exists")
		s.do("POST", stack+"/rename", `{"newName":"dev","newProject":"web"}`).want(400)
		s.do("POST", stack+"/rename", `{}`).want(400)
		s.do("POST", stack+"/rename", `{"newName":"a b"}`).want(400)
		u := s.start(stack, "update")
		s.do("POST", stack+"/rename", `{"newName":"x"}`).want(409).says("alice")
		u.complete("succeeded").want(204)

		s.wait(time.Minute)
		s.do("POST", stack+"/rename", `{"newName":"prod","newProject":"shop"}`, as(bob)).want(200).says("updateId")
		s.do("GET", renamed, nil).want(200).is("stackName", "prod").is("projectName", "shop").is("tags.pulumi:project", "shop").is("version", "3")
		a := s.do("GET", renamed+"/export", nil).want(200).says("urn:pulumi:prod::shop::test:index:Thing::a").
			is("deployment.secrets_providers.state.project", "shop").is("deployment.secrets_providers.state.stack", "prod").
			says(`"n":1.0,"big":12345678901234567890,"html":"<&>"`)
		if strings.Contains(string(a.body), "urn:pulumi:dev") {
			t.Errorf("the old name is in %s", a.body)
		}
		s.do("GET", renamed+"/updates/latest", nil).want(200).is("info.kind", "rename").is("info.version", "3").is("info.config.web:plain.string", "v1").is("info.resourceCount", "1").is("requestedBy.githubLogin", "bob")
		s.do("GET", renamed+"/export/1", nil).want(200).says("urn:pulumi:dev::web") // history is history
		decryptOne(s, renamed, secret).want(200)

		// The old name is free, but leads on where files of the time before point.
		if a := s.do("GET", stack, nil).want(404); a.header.Get("Ipuka-Stack") != "acme/shop/prod" {
			t.Errorf("the 404 says %q", a.header.Get("Ipuka-Stack"))
		}
		if a := decryptOne(s, stack, secret).want(200); a.header.Get("Ipuka-Stack") != "acme/shop/prod" {
			t.Errorf("the answer says %q", a.header.Get("Ipuka-Stack"))
		}
		s.do("GET", stack+"/export/1", nil).want(200)
		s.do("GET", stack+"/export", nil).want(200)
		s.do("POST", stack+"/update", `{}`).want(404)
		s.do("POST", renamed+"/import", old).want(200) // a file from before
		s.do("GET", renamed+"/export", nil).want(200).is("deployment.secrets_providers.state.stack", "prod").is("deployment.secrets_providers.state.owner", "acme")

		s.do("POST", renamed+"/rename", `{"newName":"dev","newProject":"web"}`).want(200)
		decryptOne(s, stack, secret).want(200)
		s.do("GET", stack, nil).want(200).is("tags.pulumi:project", "web")
		decryptOne(s, renamed, secret).want(200)
		s.do("POST", "/api/stacks/acme/shop", `{"stackName":"prod"}`).want(200) // somebody takes the name
		decryptOne(s, renamed, secret).want(400)
		s.do("GET", renamed+"/export/1", nil).want(404)
		s.do("DELETE", renamed, nil).want(204)
		decryptOne(s, renamed, secret).want(404)
		s.up(stack, "b")
	})
}

// Clients write the organization as it was typed, while the gate knows its one name.
func TestOrganizationInAnotherCase(t *testing.T) {
	each(t, func(s *service) {
		stack := s.stack("web", "dev")
		raw := strings.Replace(deployment("dev", "a"), `"acme"`, `"Acme"`, 1)
		s.do("POST", stack+"/import", raw).want(200)
		if a := s.do("GET", stack+"/export", nil).want(200); string(a.body) != raw {
			t.Errorf("exported %s", a.body)
		}
		s.do("POST", stack+"/rename", `{"newName":"prod"}`).want(200)
		s.do("GET", "/api/stacks/acme/web/prod/export", nil).want(200).is("deployment.secrets_providers.state.owner", "acme").
			is("deployment.secrets_providers.state.stack", "prod").says("urn:pulumi:prod::web")
	})
}

func TestProjectTagFollowsTheStack(t *testing.T) {
	each(t, func(s *service) {
		stack := s.stack("web", "dev")
		s.startWith(stack, "update", `{"tags":{"pulumi:project":"old","a":"b"}}`).complete("succeeded").want(204)
		s.do("GET", stack, nil).want(200).is("tags.pulumi:project", "web").is("tags.a", "b")
		id := s.create(stack, "update", false)
		s.do("POST", stack+"/update/"+id, `{"tags":{"a b":"c"}}`).want(400)
		s.startWith(stack, "update", `{}`).complete("succeeded").want(204) // says nothing of tags
		s.do("GET", stack, nil).want(200).is("tags.a", "b")
	})
}

func TestRenameOfANewStack(t *testing.T) {
	each(t, func(s *service) {
		stack := s.stack("web", "dev")
		s.do("POST", stack+"/rename", `{"newName":"b","newProject":""}`).want(200)
		s.resources("/api/stacks/acme/web/b")
		s.up("/api/stacks/acme/web/b", "x")
	})
}

func TestHistoryPages(t *testing.T) {
	each(t, func(s *service) {
		stack := s.stack("web", "dev")
		for range 5 {
			s.do("POST", stack+"/import", deployment("dev")).want(200)
		}
		for query, want := range map[string]string{
			"": "5 4 3 2 1", "?page=0": "5 4 3 2 1", "?pageSize=2&page=1": "5 4", "?pageSize=2&page=3": "1", "?pageSize=2&page=4": "",
			"?pageSize=10&page=1": "5 4 3 2 1", "?pageSize=2147483647&page=1": "5 4 3 2 1",
		} {
			var body struct{ Updates []struct{ Version int } }
			if err := json.Unmarshal(s.do("GET", stack+"/updates"+query, nil).want(200).body, &body); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, u := range body.Updates {
				got = append(got, fmt.Sprint(u.Version))
			}
			if strings.Join(got, " ") != want {
				t.Errorf("%q: %v, want %s", query, got, want)
			}
		}
		for _, query := range []string{"page=-1", "page=x", "pageSize=-1", "page=1&pageSize=0", "page=2147483647&pageSize=2147483647", "page=99999999999999999999"} {
			s.do("GET", stack+"/updates?"+query, nil).want(400)
		}
		s.do("GET", stack+"/updates?output-type=x&page=1&pageSize=1", nil).want(200).is("updates.0.info.version", "5").is("itemsPerPage", "1").is("total", "5")
	})
}

func TestWrongMasterKey(t *testing.T) {
	each(t, func(s *service) {
		s.stack("web", "dev")
		key, _ := localsecrets.NewRandomKey()
		config := s.config
		config.Keeper = localsecrets.NewKeeper(key)
		server, err := state.Open(context.Background(), config)
		if err == nil || server != nil || !strings.Contains(err.Error(), "the master key is not the one") || strings.Contains(err.Error(), "\n") {
			t.Errorf("Open: %v", err)
		}
		s.open()
	})
}

func TestOpenNeedsItsParts(t *testing.T) {
	each(t, func(s *service) {
		for _, strip := range []func(c *state.Config){
			func(c *state.Config) { c.DB = nil }, func(c *state.Config) { c.Bucket = nil }, func(c *state.Config) { c.Keeper = nil },
			func(c *state.Config) { c.Verifier = nil }, func(c *state.Config) { c.Lease = -1 },
		} {
			config := s.config
			strip(&config)
			if _, err := state.Open(context.Background(), config); err == nil {
				t.Error("Open took an incomplete configuration")
			}
		}
	})
}

func TestUnavailableDatabase(t *testing.T) {
	each(t, func(s *service) {
		stack := s.stack("web", "dev")
		u := s.start(stack, "update")
		_ = s.db.Close()
		for _, a := range []answer{
			u.journal(success(1, 1, "dev", "a")), u.complete("succeeded"), s.do("GET", stack, nil), s.do("GET", stack+"/export", nil),
			u.send("POST", "renew_lease", `{"token":"","duration":300}`), s.do("POST", stack+"/encrypt", `{"plaintext":""}`),
			s.do("POST", "/api/stacks/acme/web", `{"stackName":"b"}`), s.do("GET", "/api/user/stacks", nil),
		} {
			if a.want(503).header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		}
	})
}

func TestUnavailableBucket(t *testing.T) {
	each(t, func(s *service) {
		stack := s.stack("web", "dev")
		s.up(stack, "a")
		_ = s.bucket.Close()
		s.do("GET", stack+"/export", nil).want(503)
		s.do("POST", stack+"/import", deployment("dev", "x")).want(503)
		s.do("GET", stack, nil).want(200).is("version", "1")
	})
}

// A full disk refuses what comes, keeps what is there, and needs no restart.
func TestFullDisk(t *testing.T) {
	s := newService(t, databasetest.SQLite(t, state.Migrations))
	stack := s.stack("web", "dev")
	u := s.start(stack, "update")
	u.journal(success(1, 1, "dev", "a")).want(204)
	limit := func(statement string) {
		if err := s.db.Conn(context.Background()).Exec(statement).Error; err != nil {
			t.Fatal(err)
		}
	}
	limit("PRAGMA max_page_count = 1") // SQLite makes that the present size
	var refused []string
	for i := range 200 {
		entry := success(i+2, i+2, "dev", fmt.Sprint("r", i))
		if a := u.journal(entry); a.status == 503 {
			refused = append(refused, entry)
		} else {
			a.want(204)
		}
	}
	if len(refused) == 0 {
		t.Fatal("the disk never was full")
	}
	limit("PRAGMA max_page_count = 1000000")
	u.journal(refused...).want(204)
	u.complete("succeeded").want(204)
	s.do("GET", stack+"/updates/1", nil).want(200).is("info.resourceCount", "201")
}

// TestListOfManyStacks shows that a page costs the same however deep it lies.
func TestListOfManyStacks(t *testing.T) {
	databasetest.Each(t, func(t *testing.T, db *database.DB) {
		s := newService(t, db)
		const many = 2500
		for i := 0; i < many; i += 500 {
			var rows []string
			for n := i; n < i+500; n++ {
				rows = append(rows, fmt.Sprintf("('id%d','acme','p%d','s%06d',0,'','',0,0,'',0)", n, n%3, n))
			}
			if err := db.Conn(context.Background()).Exec("INSERT INTO stacks VALUES " + strings.Join(rows, ",")).Error; err != nil {
				t.Fatal(err)
			}
		}
		total, token := 0, ""
		for {
			a := s.do("GET", "/api/user/stacks?organization=acme&maxResults=1000"+token, nil).want(200)
			var body struct {
				Stacks            []struct{ ID string }
				ContinuationToken string
			}
			if err := json.Unmarshal(a.body, &body); err != nil {
				t.Fatal(err)
			}
			total += len(body.Stacks)
			if body.ContinuationToken == "" {
				break
			}
			token = "&continuationToken=" + body.ContinuationToken
		}
		if total != many {
			t.Errorf("%d stacks are listed", total)
		}
		if db.Dialect() != database.SQLite {
			return
		}
		var plan []struct{ Detail string }
		if err := db.Conn(context.Background()).Raw(`EXPLAIN QUERY PLAN SELECT * FROM stacks s WHERE s.organization = 'acme'
			AND (s.project, s.name) > ('p1', 's1') ORDER BY s.organization, s.project, s.name LIMIT 10`).Scan(&plan).Error; err != nil {
			t.Fatal(err)
		}
		if text := fmt.Sprint(plan); !strings.Contains(text, "organization=? AND") || strings.Contains(text, "TEMP B-TREE") {
			t.Errorf("the list does not run along its index: %s", text)
		}
	}, state.Migrations)
}
