package stream
import ("testing";"math/rand/v2";"fmt")
func TestDbg(t *testing.T){
 random := rand.New(rand.NewPCG(0x287, 0))
 x := newContest(random.IntN, t.Fatalf)
 fmt.Printf("lastwins %v naive %v win %d\n",x.target.lastWins,x.target.naive,x.target.window)
 x.run(200)
}
