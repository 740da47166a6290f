#!/usr/bin/env python3
"""The router's bandit from cold under both priors, in numpy, over a table that `replay/bench/rebuild` made: cold.py TABLE. Needs numpy."""
import json,base64,math,numpy as np,hashlib,random,sys
T=sys.argv[1].rstrip('/')+'/'
vec={}
for l in open(T+'vectors.jsonl'):
    r=json.loads(l); vec[r['key']]=np.frombuffer(base64.b64decode(r['values']),dtype=np.float32)
rows={}
for l in open(T+'outcomes.jsonl'):
    r=json.loads(l)
    if r['split']=='test': rows.setdefault(r['id'],{})[(r['tier'],r['arm'])]=r
M=(1<<64)-1
def sm(s):
    z=(s*0x9e3779b97f4a7c15+0x9e3779b97f4a7c15)&M; z=((z^(z>>30))*0xbf58476d1ce4e5b9)&M; z=((z^(z>>27))*0x94d049bb133111eb)&M; return z^(z>>31)
S=np.array([[1. if (sm((0x5265707269736531+i)&M)>>j)&1==0 else -1. for j in range(8)] for i in range(384)])
lt=lambda t: math.log1p(t)/math.log1p(8192)
reqs=[]
for id,a in rows.items():
    if len(a)<4: continue
    sp,se=a[('small','plain')],a[('small','prior-5')]
    x=np.zeros(22); x[0]=1
    ex=se['examples']
    if ex:
        s=[e['similarity'] for e in ex]; u=[e['utility'] for e in ex]
        x[1]=2*max(s)-1; x[2]=2*sum(s)/len(s)-1; x[3]=2*max(u)-1; x[4]=2*sum(u)/len(u)-1; x[5]=sum(u)/5; x[6]=len(s)/5; x[7]=lt(max(0,se['prompt_tokens']-sp['prompt_tokens']))
    x[8]=lt(sp['prompt_tokens']); f=sp['flags']
    for i,k in enumerate(('code','maths','question','label_like','long_form')): x[9+i]=float(f[k])
    x[14:]=(vec[sp['vector']]@S)/2
    x=np.clip(x,-1,1); p=x.copy(); p[1:8]=0
    sc=[a[(t,m)]['score'] for t in('small','large') for m in('plain','prior-5')]
    reqs.append((id,x,p,sc))
print(len(reqs),'requests'); reqs.sort()
def prior(kind):
    out=[]
    for r in(0.,1.):
        for e in(0,1):
            m=np.zeros(22)
            if kind=='old': m[0]=.45+.23*r; l=.45-.39*r
            else: m[0]=.04+.14*r; l=.59+.06*r
            if e: m[1]=m[3]=l/2
            out.append(m)
    return out
def play(kind,seed,n,learn):
    rnd=random.Random(seed); order=reqs[:]; rnd.shuffle(order); order=order[:n]
    P0=1/.05**2; P=[np.eye(22)*P0 for _ in range(4)]; m0=prior(kind); b=[m*P0 for m in m0]; tot=0; ch=[0]*4; reg=0
    C=[np.linalg.inv(q) for q in P]
    for id,x,p,sc in order:
        has=x[6]>0; s=[]
        for k in range(4):
            v=x if k%2 else p
            if k%2 and not has: s.append(-9); continue
            mu=(C[k]@b[k])@v; sg=math.sqrt(max(0,v@C[k]@v)); s.append(mu+sg*rnd.gauss(0,1))
        k=min(i for i in range(4) if s[i]>=max(s)-.02)
        tot+=sc[k]; ch[k]+=1; reg+=max(sc)-sc[k]
        if learn:
            for j in range(4):
                P[j]=P[j]*.998+np.eye(22)*(.002*P0); b[j]=b[j]*.998+m0[j]*(.002*P0)
                if j==k:
                    v=x if k%2 else p; P[j]+=np.outer(v,v)/.05; b[j]+=v*(sc[k]/.05)
                C[j]=np.linalg.inv(P[j])
    return tot/n,[c/n for c in ch],reg/n
for n in (50,200,1000):
    for learn in (False,True):
        for kind in ('old','new'):
            r=[play(kind,s,n,learn) for s in range(12 if n<1000 else 4)]
            m=[a[0] for a in r]; mean=sum(m)/len(m); sd=(sum((v-mean)**2 for v in m)/(len(m)-1))**.5
            print(n,'learns' if learn else 'no feedback',kind,'score %.3f +- %.3f'%(mean,1.96*sd/len(m)**.5),'arms',np.mean([a[1] for a in r],axis=0).round(2),'regret %.3f'%np.mean([a[2] for a in r]),flush=True)
