// What the examples take from your application.

export interface Plan {
  userId: string;
  perWorkflow: number;
  perMonth: number;
  periodBegan: Date;
}

/** The plan of whoever is signed in, by the session's cookie. It throws where nobody is. */
export declare function currentPlan(): Promise<Plan>;

/** What a run does. */
export declare function work(userId: string, workflowId: string): Promise<string>;
